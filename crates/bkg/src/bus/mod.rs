//! The plugin bus: listeners, who may speak on them, and one task per socket.
//!
//! Every launch has a private listener of its own; the shared port serves plugins that run elsewhere.
//! Only `connection` touches a plugin's socket. What plugins ask of each other goes through `calls`,
//! what they tell each other through `topics`.

mod admission;
mod authorize;
mod calls;
mod connection;
mod handshake;
mod liveness;
mod peer;
mod topics;
mod turn;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::message::LogLevel;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::auth::Authenticator;
use crate::config::HostConfig;
use crate::dispatcher::Dispatcher;
use crate::logs::{Logs, NewLine};
use crate::metrics::Metrics;
use crate::registry::{Launch, LaunchEvent, PrivateListener, Registry};
use crate::web::{Acceptor, Metering};
pub use authorize::Misses;
use connection::Connection;
use peer::Identity;

/// How many connections a listener takes at once before it slows down: a plugin that redials without
/// delay must not keep the host busy.
const DIAL_BURST: u32 = 20;
/// How long the listener rests per connection beyond the burst.
const DIAL_PAUSE: Duration = Duration::from_millis(250);

/// What the bus works with.
#[derive(Debug)]
pub struct Bus {
    /// The host's configuration.
    pub config: Arc<HostConfig>,
    /// Where instances are entered.
    pub registry: Arc<Registry>,
    /// Who carries what plugins ask of each other.
    pub dispatcher: Arc<Dispatcher>,
    /// Who must know when credentials change.
    pub authenticator: Arc<Authenticator>,
    /// Where what plugins ask for on behalf of callers is written down.
    pub metering: Arc<Metering>,
    /// Which plugins asked about credentials that open nothing.
    pub misses: Misses,
    /// Where log lines go.
    pub logs: Logs,
    /// Where frames are counted.
    pub metrics: Arc<Metrics>,
}

impl Bus {
    /// Serves the shared port and every private listener that arrives, until `stop` fires and all
    /// sessions have ended.
    pub async fn serve(
        self: Arc<Self>,
        shared: TcpListener,
        mut private: mpsc::Receiver<PrivateListener>,
        stop: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&self).listen_shared(shared, tasks.clone(), stop.clone()));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                listener = private.recv() => match listener {
                    Some(listener) => {
                        tasks.spawn(Arc::clone(&self).listen_private(listener, tasks.clone(), stop.clone()));
                    }
                    None => break,
                },
            }
        }
        stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }

    async fn listen_private(
        self: Arc<Self>,
        PrivateListener { listener, launch, over }: PrivateListener,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                launch.report(LaunchEvent::Refused {
                    reason: format!("its listener cannot be used: {error}"),
                });
                return;
            }
        };
        let mut listener = Acceptor::new(listener, "bus of a launch", b"");
        let mut dials = DialRate::default();
        loop {
            let (socket, peer) = tokio::select! {
                () = stop.cancelled() => return,
                () = over.cancelled() => return,
                accepted = listener.next() => accepted,
            };
            let bus = Arc::clone(&self);
            let (launch, session_over) = (Arc::clone(&launch), over.clone());
            tasks.spawn(async move { bus.greet(socket, peer, launch, session_over).await });
            tokio::select! {
                () = over.cancelled() => return,
                () = dials.next() => {}
            }
        }
    }

    /// Finds out who dialled a private listener, and lets the launch's own processes in.
    async fn greet(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        launch: Arc<Launch>,
        over: CancellationToken,
    ) {
        let deadline = Instant::now() + self.config.limits.register_within;
        let (Ok(local), Ok(())) = (socket.local_addr(), socket.set_nodelay(true)) else { return };
        let process = tokio::select! {
            process = launch.spawned_process() => process,
            () = tokio::time::sleep_until(deadline) => return,
        };
        // Reading /proc blocks.
        let lookup = tokio::task::spawn_blocking(move || peer::identify(peer, local, &process));
        let identity = lookup.await.unwrap_or_else(|error| Identity::Unknown { why: error.to_string() });
        let verified = match identity {
            Identity::Verified { .. } => true,
            Identity::Unknown { why } => {
                debug!(plugin = %launch.plugin, why, "the peer cannot be identified");
                false
            }
            Identity::Foreign { pid } => {
                let who =
                    pid.map_or_else(|| "an unknown process".to_owned(), |pid| format!("process {pid}"));
                let line = format!("refused a connection of {who}: it does not belong to this launch");
                warn!(plugin = %launch.plugin, instance = %launch.instance, pid, "refused a foreign connection");
                self.logs
                    .plugin(&launch.plugin)
                    .append(NewLine::host(LogLevel::Warn, line).instance(launch.instance));
                handshake::refuse(socket, deadline, 1008, "this listener serves another launch").await;
                return;
            }
        };
        let largest = launch.entry.max_frame_bytes;
        match handshake::upgrade(socket, deadline, &self.config.limits, largest).await {
            Ok((socket, token)) => {
                let connection = Connection::new(self, socket, Some(launch), verified, token, deadline);
                connection.run(over).await;
            }
            Err(refusal) => debug!(plugin = %launch.plugin, %refusal, "no session came of a connection"),
        }
    }

    /// The shared port: no plugin is known to run elsewhere unless a bus key was issued for its name,
    /// and none has been, so every `register` here is told so.
    async fn listen_shared(
        self: Arc<Self>,
        listener: TcpListener,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let mut listener = Acceptor::new(listener, "shared bus", b"");
        let mut dials = DialRate::default();
        loop {
            let (socket, _) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.next() => accepted,
            };
            let (bus, session_stop) = (Arc::clone(&self), stop.clone());
            tasks.spawn(async move {
                let deadline = Instant::now() + bus.config.limits.register_within;
                let Ok(()) = socket.set_nodelay(true) else { return };
                match handshake::upgrade(socket, deadline, &bus.config.limits, None).await {
                    Ok((socket, token)) => {
                        Connection::new(bus, socket, None, false, token, deadline).run(session_stop).await;
                    }
                    Err(refusal) => debug!(%refusal, "no session came of a connection"),
                }
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = dials.next() => {}
            }
        }
    }
}

/// Slows a listener down whose clients dial without delay.
#[derive(Debug)]
struct DialRate {
    left: u32,
    refilled: Instant,
}

impl Default for DialRate {
    fn default() -> Self {
        Self { left: DIAL_BURST, refilled: Instant::now() }
    }
}

impl DialRate {
    /// Completes when the next connection may be accepted.
    async fn next(&mut self) {
        let earned = self.refilled.elapsed().as_millis() / DIAL_PAUSE.as_millis();
        if earned > 0 {
            self.left = (self.left + earned.min(u128::from(DIAL_BURST)) as u32).min(DIAL_BURST);
            self.refilled = Instant::now();
        }
        if self.left == 0 {
            tokio::time::sleep(DIAL_PAUSE).await;
            // This rest was for the connection that comes now, and earns no other.
            self.refilled = Instant::now();
        } else {
            self.left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_dial_beyond_the_burst_waits() {
        let mut dials = DialRate::default();
        let begun = Instant::now();
        for _ in 0..DIAL_BURST {
            dials.next().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            dials.next().await;
        }
        assert!(begun.elapsed() >= DIAL_PAUSE * 10, "{:?}", begun.elapsed());
        tokio::time::sleep(DIAL_PAUSE * DIAL_BURST).await;
        let rested = Instant::now();
        for _ in 0..DIAL_BURST {
            dials.next().await;
        }
        assert_eq!(rested.elapsed(), Duration::ZERO);
    }
}
