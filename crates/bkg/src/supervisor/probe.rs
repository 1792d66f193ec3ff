//! The health probe of an entry: the question whether a plugin is well, beyond that it beats.
//!
//! Not liveness: beats are the bus's to judge. Each session has a task that asks at the entry's interval
//! and reports through the launch; [`passes`] asks one session once. The invariants: only the session's
//! own port and socket are asked, never another instance's, and an instance that is busy and beats is
//! not ill.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::host::Contract;
use bkg_protocol::message::{Condition, LogLevel};
use bkg_protocol::{CapabilityName, RawJson};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use procfs::net::TcpState;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Healthcheck, Probed};
use crate::dispatcher::{Asked, NotAsked, ask_instance};
use crate::logs::{NewLine, PluginLog, printable};
use crate::registry::process_table::{ProcessTable, holds_socket};
use crate::registry::{Instance as Session, Launch, LaunchEvent, Registry};

/// The largest head of an answer that is read, in bytes.
const MOST_HEAD: usize = 16 << 10;
/// How much of an answer is read for the reason, in bytes.
const MOST_BODY: usize = 4 << 10;
/// How much of an answer a reason repeats, in bytes.
const MOST_REPEATED: usize = 160;

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Well,
    /// One clause on what came instead of a good answer.
    Missed(String),
    /// It says nothing for or against the instance: one clause on why.
    Nothing(&'static str),
}

/// Asks one session once; answers why it does not pass. What cannot be asked now, because it is busy or has
/// no port, passes.
pub(crate) async fn passes(
    registry: &Registry,
    probe: &Healthcheck,
    session: &Arc<Session>,
) -> Result<(), String> {
    match ask(registry, probe, session, &mut None).await {
        Found::Well | Found::Nothing(_) => Ok(()),
        Found::Missed(what) => Err(format!("its health probe {} {what}", Shown(&probe.asks))),
    }
}

/// Probes a session for as long as it lasts, where its entry says so; ends when this is dropped.
pub(super) fn watch(
    registry: &Arc<Registry>,
    launch: &Arc<Launch>,
    session: &Arc<Session>,
    log: PluginLog,
) -> AbortOnDropHandle<()> {
    let (registry, launch, session) = (Arc::clone(registry), Arc::clone(launch), Arc::clone(session));
    AbortOnDropHandle::new(tokio::spawn(
        async move { keep_asking(&registry, &launch, &session, log).await },
    ))
}

async fn keep_asking(registry: &Registry, launch: &Launch, session: &Arc<Session>, log: PluginLog) {
    let mut standing = Standing::default();
    let mut open = None;
    let mut told = None;
    while !session.is_over() {
        let Some(probe) = probe_of(registry, launch) else {
            // Nobody asks any more: what was found before no longer counts.
            if std::mem::take(&mut standing).is_out {
                registry.set_well(session);
                launch.report(LaunchEvent::Well);
            }
            registry.until(|_| probe_of(registry, launch).map(drop)).await;
            continue;
        };
        let changed =
            registry.until(|_| (probe_of(registry, launch).as_ref() != Some(&probe)).then_some(()));
        if timeout(probe.interval(), changed).await.is_ok() {
            open = None;
            continue;
        }
        // What says itself that it leaves, or misses its beats, is judged by that.
        if !standing.is_out && matches!(session.condition(), Condition::Draining | Condition::Down) {
            continue;
        }
        let found = ask(registry, &probe, session, &mut open).await;
        if let Found::Nothing(why) = found
            && why != BUSY
            && told.replace(why) != Some(why)
        {
            let line = format!("its health probe {} is not asked: {why}", Shown(&probe.asks));
            log.append(NewLine::host(LogLevel::Warn, line).instance(launch.instance));
        }
        let reason = match &found {
            Found::Missed(what) => format!("its health probe {} {what}", Shown(&probe.asks)),
            Found::Well | Found::Nothing(_) => String::new(),
        };
        let missed = standing.missed + 1;
        match standing.after(&found, probe.failures()) {
            Step::None => {}
            Step::Out => {
                registry.set_ill(session);
                launch.report(LaunchEvent::Ill { reason: format!("{reason}, {missed} times in a row") });
            }
            Step::Replace => {
                launch
                    .report(LaunchEvent::Replace { reason: format!("{reason}, {missed} times in a row") });
            }
            Step::Back => {
                registry.set_well(session);
                launch.report(LaunchEvent::Well);
            }
        }
    }
}

/// What an instance is asked: by the entry as it is now, unless its process is of another version.
fn probe_of(registry: &Registry, launch: &Launch) -> Option<Healthcheck> {
    let record = registry.plugin(launch.plugin.as_str())?;
    let entry = match launch.entry.must_restart_for(&record.entry) {
        true => &launch.entry,
        false => &record.entry,
    };
    entry.healthcheck.clone()
}

/// The misses of one session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Standing {
    missed: u32,
    is_out: bool,
}

/// What follows a probe.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    None,
    /// Out of rotation.
    Out,
    /// To be replaced.
    Replace,
    /// In rotation again.
    Back,
}

impl Standing {
    fn after(&mut self, found: &Found, failures: u32) -> Step {
        match found {
            Found::Nothing(_) => Step::None,
            Found::Well => {
                self.missed = 0;
                if std::mem::take(&mut self.is_out) { Step::Back } else { Step::None }
            }
            Found::Missed(_) => {
                self.missed = self.missed.saturating_add(1);
                if self.missed >= failures.saturating_mul(2) {
                    Step::Replace
                } else if self.missed >= failures && !std::mem::replace(&mut self.is_out, true) {
                    Step::Out
                } else {
                    Step::None
                }
            }
        }
    }
}

/// Why a miss does not count.
const BUSY: &str = "it is busy, and it beats";

async fn ask(
    registry: &Registry,
    probe: &Healthcheck,
    session: &Arc<Session>,
    open: &mut Option<Asked>,
) -> Found {
    let within = probe.timeout();
    match &probe.asks {
        Probed::Capability(capability) => ask_capability(session, capability, within, open).await,
        Probed::Path(path) => {
            let Some(port) = session.registration().register.port.number() else {
                return Found::Nothing("it registered no port of its own");
            };
            match timeout(within, ask_path(port, path)).await {
                Ok(Ok(())) => its_own(registry, session, port).await,
                Ok(Err(what)) => Found::Missed(what),
                // Some serve one request at a time, their HTTP twin included.
                Err(_) if session.in_flight() > 0 => Found::Nothing(BUSY),
                Err(_) => Found::Missed(late(within)),
            }
        }
    }
}

fn late(within: Duration) -> String {
    format!("was not answered within {} ms", within.as_millis())
}

/// Asks over the bus. A question that was not answered in time stays open and is not asked again: a
/// plugin that is slow must not find a heap of probes, nor be replaced for not minding a cancel.
async fn ask_capability(
    session: &Arc<Session>,
    capability: &CapabilityName,
    within: Duration,
    open: &mut Option<Asked>,
) -> Found {
    if open.is_none() {
        // A base plugin may work on one request at a time, and this one would wait behind the others.
        if session.contract == Contract::Base && session.in_flight() > 0 {
            return Found::Nothing(BUSY);
        }
        *open = match ask_instance(session, capability, RawJson::EMPTY_OBJECT, within) {
            Ok(asked) => Some(asked),
            Err(NotAsked::NoPlace | NotAsked::Gone) => return Found::Nothing(BUSY),
            Err(NotAsked::NotOffered) => return Found::Missed("is not offered".to_owned()),
        };
    }
    let asked = open.as_mut().expect("a question is open");
    match asked.within(within).await {
        // The question itself has one of the places.
        None if session.in_flight() > 1 => Found::Nothing(BUSY),
        None => Found::Missed(late(within)),
        Some(answer) => {
            *open = None;
            match answer {
                Ok(_) => Found::Well,
                Err(failure) => Found::Missed(format!("failed: {}", repeated(&failure.to_string()))),
            }
        }
    }
}

/// Asks the plugin's own port; answers what came instead of a status from 200 to 299.
async fn ask_path(port: u16, path: &str) -> Result<(), String> {
    let unanswered = |error: &dyn fmt::Display| format!("has no answer on port {port}: {error}");
    let socket = connect(port).await.map_err(|error| unanswered(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| unanswered(&error))?;
    let request = Request::get(path)
        .header(header::HOST, format!("127.0.0.1:{port}"))
        .header(header::USER_AGENT, "bkg-probe")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("the entry's path is a request target");
    let asking = async {
        let answer = sender.send_request(request).await.map_err(|error| unanswered(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(answer.into_body(), MOST_BODY).collect().await;
        let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Err(refused(status, &text.unwrap_or_default()))
    };
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = asking => answer,
        // The connection moves what is asked; where it ends first, the answer says why.
        Err(error) = &mut connection => Err(unanswered(&error)),
    }
}

fn refused(status: StatusCode, body: &str) -> String {
    match body.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("answered {}: {}", status.as_u16(), repeated(line.trim())),
        None => format!("answered {}", status.as_u16()),
    }
}

fn repeated(text: &str) -> String {
    printable(text, MOST_REPEATED).0
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    let at = |address: IpAddr| TcpStream::connect(SocketAddr::new(address, port));
    match at(Ipv4Addr::LOCALHOST.into()).await {
        Ok(socket) => Ok(socket),
        // Some listen on `::1` alone; what the first attempt said is the usual reason.
        Err(error) => at(Ipv6Addr::LOCALHOST.into()).await.map_err(|_| error),
    }
}

/// A good answer counts for a session only if no other launch of this host gave it: of two versions that
/// want the same port, the later one registers it and the earlier one listens there.
async fn its_own(registry: &Registry, session: &Session, port: u16) -> Found {
    let launches = registry.launches();
    if launches.iter().all(|launch| launch.process.instance == session.id) {
        return Found::Well;
    }
    let own = session.id;
    let looking = tokio::task::spawn_blocking(move || {
        let mut sockets = procfs::net::tcp().unwrap_or_default();
        sockets.extend(procfs::net::tcp6().unwrap_or_default());
        let listens = |socket: &&procfs::net::TcpNetEntry| {
            socket.state == TcpState::Listen && socket.local_address.port() == port
        };
        let inodes: Vec<u64> = sockets.iter().filter(listens).map(|socket| socket.inode).collect();
        let table = ProcessTable::read().ok()?;
        let (mine, others): (Vec<_>, Vec<_>) =
            launches.into_iter().partition(|launch| launch.process.instance == own);
        let holds = |launch: &crate::registry::SpawnedLaunch| {
            let members = table.living_members(&(&launch.process).into());
            members
                .iter()
                .any(|member| inodes.iter().any(|inode| holds_socket(member.pid, *inode) == Some(true)))
        };
        // What the kernel does not tell, a container's port for one, is believed.
        if mine.iter().any(holds) { None } else { others.into_iter().find(holds) }
    });
    match looking.await.ok().flatten() {
        Some(other) => {
            Found::Missed(format!("was answered on port {port} by another launch, of `{}`", other.plugin))
        }
        None => Found::Well,
    }
}

/// A probe as reasons name it.
struct Shown<'a>(&'a Probed);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Probed::Path(path) => write!(out, "`GET {path}`"),
            Probed::Capability(capability) => write!(out, "`{capability}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn missed() -> Found {
        Found::Missed("x".to_owned())
    }

    #[test]
    fn misses_in_a_row_take_out_and_as_many_again_replace() {
        let mut standing = Standing::default();
        let steps: Vec<Step> = (0..7).map(|_| standing.after(&missed(), 3)).collect();
        use Step::{None, Out, Replace};
        assert_eq!(steps, [None, None, Out, None, None, Replace, Replace]);
    }

    #[test]
    fn one_good_answer_forgets_the_misses_and_brings_back() {
        let mut standing = Standing::default();
        standing.after(&missed(), 2);
        assert_eq!(standing.after(&Found::Well, 2), Step::None);
        standing.after(&missed(), 2);
        assert_eq!(standing.after(&missed(), 2), Step::Out);
        assert_eq!(standing.after(&Found::Well, 2), Step::Back);
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn a_busy_instance_is_neither_ill_nor_well() {
        let mut standing = Standing::default();
        standing.after(&missed(), 2);
        assert_eq!(standing.after(&Found::Nothing(BUSY), 2), Step::None);
        assert_eq!(standing.after(&missed(), 2), Step::Out);
        assert_eq!(standing.after(&Found::Nothing(BUSY), 2), Step::None);
        assert!(standing.is_out);
    }

    /// What a probe makes of a server that answers so, and the request that the server read.
    async fn asked(answer: &'static [u8]) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).await.unwrap();
                request.push(byte[0]);
            }
            // Whoever has read enough closes.
            let _ = socket.write_all(answer).await;
            String::from_utf8(request).unwrap()
        });
        let found = ask_path(port, "/health?deep=1").await;
        let port = port.to_string();
        (found.map_err(|reason| reason.replace(&port, "N")), server.await.unwrap().replace(&port, "N"))
    }

    #[tokio::test]
    async fn any_2xx_is_well_and_nothing_else() {
        for (answer, found) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], Ok(())),
            (b"HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            (b"HTTP/1.1 200 OK\r\n\r\nendless", Ok(())),
            (
                b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
                Err("answered 302"),
            ),
            (b"HTTP/1.1 503 X\r\ncontent-length: 9\r\n\r\n\n no\x1bway\n", Err("answered 503: no\\x1bway")),
        ] {
            let (result, request) = asked(answer).await;
            assert_eq!(result, found.map_err(str::to_owned));
            assert!(
                request.starts_with("GET /health?deep=1 HTTP/1.1\r\nhost: 127.0.0.1:N\r\n"),
                "{request}"
            );
        }
        for broken in [&b"nonsense\r\n\r\n"[..], b""] {
            let reason = asked(broken).await.0.unwrap_err();
            assert!(reason.starts_with("has no answer on port N: "), "{reason}");
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_refused_and_a_long_body_cut() {
        let head: &'static [u8] = vec![b'a'; 1 << 20].leak();
        assert!(asked(head).await.0.is_err());
        let mut long = b"HTTP/1.1 500 X\r\n\r\n".to_vec();
        long.resize(1 << 20, b'b');
        let reason = asked(long.leak()).await.0.unwrap_err();
        assert!(reason.len() < 300, "{reason}");
    }

    #[tokio::test]
    async fn a_closed_port_is_a_miss() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let reason = ask_path(port, "/").await.unwrap_err();
        assert!(reason.contains("refused"), "{reason}");
    }
}
