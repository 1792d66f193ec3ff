//! Taking connections from a listener, also while the machine has no descriptor left for them.
//!
//! Not what becomes of a connection. The invariants: an error never ends a listener and never makes it
//! spin; while descriptors are used up whoever dials is turned away instead of left to wait, by means of a
//! descriptor that is kept for it; and it is said once when that begins and once when it is over. `server`
//! and `bus` take their connections from here.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

/// The first rest when no connection can be taken; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_millis(50);
/// The longest, and so how late it is noticed that there are descriptors again.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How long nothing may have gone wrong until it is over: one descriptor that comes back is soon gone again.
const QUIET_FOR: Duration = Duration::from_secs(2);
/// How many are turned away before the next rest.
const TURNED_AWAY_AT_ONCE: usize = 64;

/// A listener that outlives every error.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    /// What it is for, in messages.
    name: &'static str,
    /// What somebody hears who is turned away for want of a descriptor.
    excuse: &'static [u8],
    /// Given up for as long as it takes to turn somebody away.
    spare: Option<File>,
    trouble: Option<Trouble>,
}

/// A time in which no connection can be taken.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// When it was last so.
    last: Instant,
    rest: Duration,
    turned_away: u64,
}

impl Acceptor {
    /// A listener that is called `name` in messages. Whoever cannot be taken hears `excuse`.
    pub fn new(listener: TcpListener, name: &'static str, excuse: &'static [u8]) -> Self {
        Self { listener, name, excuse, spare: spare(), trouble: None }
    }

    /// The next connection. Dropping the future loses none.
    pub async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = match &mut self.trouble {
                None => self.listener.accept().await,
                Some(trouble) => {
                    let Ok(accepted) = timeout_at(trouble.last + QUIET_FOR, self.listener.accept()).await
                    else {
                        self.recovered();
                        continue;
                    };
                    if accepted.is_ok() {
                        trouble.rest = FIRST_REST;
                    }
                    accepted
                }
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => self.rest(&error).await,
            }
        }
    }

    fn recovered(&mut self) {
        if let Some(Trouble { since, turned_away, .. }) = self.trouble.take() {
            let after = since.elapsed();
            info!(listener = self.name, ?after, turned_away, "connections are taken again");
        }
        if self.spare.is_none() {
            self.spare = spare();
        }
    }

    async fn rest(&mut self, error: &Error) {
        let is_new = self.trouble.is_none();
        if is_new {
            warn!(listener = self.name, %error, "no connection can be taken: whoever dials is turned away until that is over");
        }
        let turned_away = if is_out_of_descriptors(error) { self.turn_away() } else { 0 };
        let now = Instant::now();
        let fresh = Trouble { since: now, last: now, rest: FIRST_REST, turned_away: 0 };
        let trouble = self.trouble.get_or_insert(fresh);
        trouble.last = now;
        trouble.turned_away += turned_away;
        let rest = trouble.rest;
        trouble.rest = (rest * 2).min(LONGEST_REST);
        sleep(rest).await;
    }

    /// Takes those who wait with the spare descriptor, excuses itself, and closes.
    fn turn_away(&mut self) -> u64 {
        let mut turned_away = 0;
        self.spare = self.spare.take().or_else(spare);
        for _ in 0..TURNED_AWAY_AT_ONCE {
            if self.spare.take().is_none() {
                break;
            }
            let taken = self.listener.accept().now_or_never();
            if let Some(Ok((socket, _))) = &taken {
                excuse(socket, self.excuse);
                turned_away += 1;
            }
            let somebody_came = matches!(taken, Some(Ok(_)));
            drop(taken);
            // Somebody else in this process may have been faster: then there is none until there is.
            self.spare = spare();
            if !somebody_came {
                break;
            }
        }
        turned_away
    }
}

/// Best effort: nothing is waited for.
fn excuse(socket: &TcpStream, text: &[u8]) {
    // What was sent and not read would turn the close into a reset, which takes the excuse with it.
    let _ = socket.try_read(&mut [0; 4 << 10]);
    let _ = socket.try_write(text);
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether the next connection may be a better one (accept(2)).
fn is_of_one_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

fn is_out_of_descriptors(error: &Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_one_connection_is_no_reason_to_rest() {
        let error = |errno: Errno| Error::from_raw_os_error(errno as i32);
        assert!(is_of_one_connection(&error(Errno::ECONNABORTED)));
        for errno in [Errno::EMFILE, Errno::ENFILE] {
            assert!(is_out_of_descriptors(&error(errno)) && !is_of_one_connection(&error(errno)));
        }
        assert!(!is_out_of_descriptors(&error(Errno::ENOMEM)));
    }

    #[tokio::test(start_paused = true)]
    async fn rests_grow_up_to_a_second_and_are_forgotten_afterwards() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut acceptor = Acceptor::new(listener, "test", b"");
        let mut rests = Vec::new();
        for _ in 0..7 {
            let begun = Instant::now();
            acceptor.rest(&Error::from_raw_os_error(Errno::ENOMEM as i32)).await;
            rests.push(begun.elapsed().as_millis());
        }
        assert_eq!(rests, [50, 100, 200, 400, 800, 1_000, 1_000]);
        acceptor.recovered();
        assert!(acceptor.trouble.is_none());
    }
}
