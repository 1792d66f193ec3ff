//! Puts the daemon together, runs it, and takes it apart again.
//!
//! The only module that knows all the others. The invariant: `ports.json` is there exactly while the
//! host is ready, and a stop loses no request that ends within the drain.

mod listeners;
mod logging;
mod ports;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::{self, Admin};
use crate::auth::Authenticator;
use crate::bus::Bus;
use crate::config::{Catalogue, HostConfig, Loaded, Outcome, discover};
use crate::dispatcher::Dispatcher;
use crate::gateway::{self, Gateway};
use crate::logs::{LogSettings, Logs};
use crate::registry::{PrivateListener, Registry};
use crate::store::{DataDir, StoreError};
use crate::supervisor::{Spawner, Supervision, Supervisor, SupervisorError, reap_leftovers};
use crate::web::{RouteInfo, Routes, Server};

/// How many listeners of launches may be on their way to the bus; a launch waits for room.
const LISTENERS_ON_THE_WAY: usize = 16;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port is taken.
    #[error("the port {port} for {what} is taken: stop the other program, or choose another with `{flag}`")]
    PortTaken {
        /// The port.
        port: u16,
        /// What it is wanted for.
        what: &'static str,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// A listener cannot be made.
    #[error("no listener for {what} on port {port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// What it is wanted for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// What processes are started with cannot be set up.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The system has no thread or no signal handler to give.
    #[error("the daemon cannot be set up: {0}")]
    System(#[from] std::io::Error),
}

impl AppError {
    /// The exit code of the process, as `docs/operating.md` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Store(StoreError::Locked { .. }) => 3,
            Self::PortTaken { .. } => 4,
            Self::Store(StoreError::RootKeyDamaged { .. } | StoreError::Malformed { .. }) => 6,
            _ => 1,
        }
    }
}

/// Runs the daemon until a signal stops it. Blocks.
///
/// # Errors
/// Why it could not start; nothing of it is left then.
pub fn run(loaded: Loaded) -> Result<(), AppError> {
    logging::start(&loaded.config.logs);
    let runtime = runtime(loaded.config.runtime_threads)?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        let host = Host::start(loaded.config).await?;
        let (api, bus) = host.ports();
        info!(api, bus, data_dir = %host.data.path().display(), "ready");
        stop.cancelled().await;
        host.stop().await;
        Ok(())
    });
    // Blocking reads of the process table may still be under way; nobody waits for them.
    runtime.shutdown_background();
    result
}

/// One thread runs everything unless told otherwise: `docs/decisions/0001-runtime.md` has the figures.
fn runtime(threads: u32) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads as usize);
    }
    builder.enable_all().thread_name("bkg").build()
}

/// Fires at SIGTERM or SIGINT; the second one ends the process at once.
fn stop_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let fires = stop.clone();
    tokio::spawn(async move {
        for attempt in 1.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if attempt > 1 {
                error!(signal = name, "stopping at once: what is left is reaped at the next start");
                std::process::exit(130);
            }
            info!(signal = name, "stopping");
            fires.cancel();
        }
    });
    Ok(stop)
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Host {
    /// The data directory.
    pub data: Arc<DataDir>,
    /// What is alive.
    pub registry: Arc<Registry>,
    /// The log lines of plugins.
    pub logs: Logs,
    /// Who carries requests.
    pub dispatcher: Arc<Dispatcher>,
    /// Who starts and stops plugins.
    pub supervisor: Arc<Supervisor>,
    table: Vec<RouteInfo>,
    ports: (u16, u16),
    server: JoinHandle<()>,
    bus: JoinHandle<()>,
    ports_file: JoinHandle<()>,
    stop_server: CancellationToken,
    stop_bus: CancellationToken,
}

impl Host {
    /// Takes the data directory, binds the ports, reaps what a killed host left, starts plugins and
    /// serves.
    ///
    /// # Errors
    /// Why it could not start; nothing of it is left then.
    pub async fn start(config: HostConfig) -> Result<Self, AppError> {
        let config = Arc::new(config);
        let started_at = Timestamp::now();
        let data = Arc::new(DataDir::open(&config.data_dir)?);
        let api = listeners::api(config.api_port)?;
        let shared_bus = listeners::bus(config.bus_port)?;
        let ports = (port_of(&api[0])?, port_of(&shared_bus)?);
        reap_leftovers(data.ledger()).await?;

        let catalogue = discover(config.plugin_directories());
        report(&catalogue);
        let known = catalogue.ready().map(|(found, entry)| (Arc::new(entry.clone()), found.root.clone()));
        let registry = Arc::new(Registry::new(known, config.dispatch_order.clone()));
        let logs = Logs::open(
            &data.plugins(),
            LogSettings {
                ring_lines: config.logs.ring_lines,
                segment_bytes: config.logs.segment_bytes,
                segments: config.logs.segments,
                lines_per_second: config.logs.lines_per_second,
            },
        )?;
        let credit = config.limits.stream_credit;
        let dispatcher = Arc::new(Dispatcher::new(Arc::clone(&registry), config.queue.clone(), credit));

        let stop_bus = CancellationToken::new();
        let (listeners, private) = mpsc::channel::<PrivateListener>(LISTENERS_ON_THE_WAY);
        let bus = Arc::new(Bus {
            config: Arc::clone(&config),
            registry: Arc::clone(&registry),
            dispatcher: Arc::clone(&dispatcher),
            logs: logs.clone(),
        });
        let bus = tokio::spawn(bus.serve(shared_bus, private, stop_bus.clone()));

        let supervisor = Arc::new(Supervisor::start(Supervision {
            config: Arc::clone(&config),
            registry: Arc::clone(&registry),
            logs: logs.clone(),
            data: Arc::clone(&data),
            spawner: Spawner::start(tokio::runtime::Handle::current()).map_err(SupervisorError::from)?,
            listeners,
            environment: std::env::vars_os().collect(),
        }));

        let stop_server = CancellationToken::new();
        let authenticator = Arc::new(Authenticator::new(data.root_key().clone()));
        let gateway = Gateway::new(Arc::clone(&dispatcher), Arc::clone(&registry), config.http.clone());
        let gateway = Arc::new(gateway);
        let operator = Arc::new(Admin {
            config: Arc::clone(&config),
            catalogue,
            registry: Arc::clone(&registry),
            dispatcher: Arc::clone(&dispatcher),
            supervisor: Arc::clone(&supervisor),
            logs: logs.clone(),
            ports,
            stopping: stop_server.clone(),
            started_at,
        });
        let routes = admin::routes(gateway::routes(Routes::new(authenticator), &gateway), &operator);
        let table = routes.table().to_vec();
        let server = Server::new(routes.into_router(), config.http.clone(), config.supervisor.drain);
        let server = tokio::spawn(server.run(api, stop_server.clone()));
        // Whoever finds the file may rely on a host that is ready, so it comes last.
        let ports_file = ports::keep(&data, &registry, ports, started_at).await;
        Ok(Self {
            data,
            registry,
            logs,
            dispatcher,
            supervisor,
            table,
            ports,
            server,
            bus,
            ports_file,
            stop_server,
            stop_bus,
        })
    }

    /// The ports of the HTTP listener and of the shared bus.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Every route with the access that it declares.
    pub fn routes(&self) -> &[RouteInfo] {
        &self.table
    }

    /// Stops accepting, lets open requests end within the drain, stops every plugin, and leaves
    /// nothing behind.
    pub async fn stop(self) {
        self.stop_server.cancel();
        let _ = self.server.await;
        self.supervisor.shut_down().await;
        self.stop_bus.cancel();
        let _ = self.bus.await;
        self.ports_file.abort();
        let _ = self.ports_file.await;
        let (data, logs) = (self.data, self.logs);
        let closing = tokio::task::spawn_blocking(move || {
            if !logs.close() {
                warn!("the last log lines of plugins could not be written in time");
            }
            data.remove_ports()
        });
        match closing.await {
            Ok(Ok(())) => info!("stopped"),
            Ok(Err(problem)) => warn!(error = %problem, "`ports.json` could not be removed"),
            Err(problem) => warn!(error = %problem, "the logs could not be closed"),
        }
    }
}

fn port_of(listener: &TcpListener) -> std::io::Result<u16> {
    listener.local_addr().map(|address| address.port())
}

/// Says which folders are no usable plugins; they disturb nothing else.
fn report(catalogue: &Catalogue) {
    for found in &catalogue.plugins {
        let folder = found.folder.display();
        match &found.outcome {
            Outcome::Ready(_) => {}
            Outcome::Shadowed { name, by } => {
                warn!(%folder, plugin = %name, by = %by.display(), "a folder has a name that is taken");
            }
            Outcome::Broken { error } => warn!(%folder, %error, "a folder is no usable plugin"),
        }
    }
}
