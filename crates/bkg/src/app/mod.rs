//! Puts the daemon together, runs it, and takes it apart again.
//!
//! The only module that knows all the others. The invariant: `ports.json` is there exactly while the
//! host is ready, and a stop loses no request that ends within the drain.

mod listeners;
mod logging;
mod ports;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bkg_protocol::PluginName;
use bkg_protocol::message::Secret;
use futures_util::future::OptionFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::accounts::{self, Accounts};
use crate::admin::{self, Admin};
use crate::api::{self, Api};
use crate::auth::{Attendance, Authenticator, Changes, FirstPassword, Holder, Provider, Spent};
use crate::backup::Backups;
use crate::bus::{Bus, Misses};
use crate::config::{Catalogue, HostConfig, Loaded, NotAPlugin, Outcome, check_named, discover};
use crate::dev::Workshop;
use crate::dispatcher::Dispatcher;
use crate::entries::{self, Entries};
use crate::gateway::plugin_routes::{self, PluginRoutes};
use crate::gateway::{self, Gateway};
use crate::live::{self, Live};
use crate::logs::{LogSettings, Logs};
use crate::metrics::Metrics;
use crate::reference::{self, Reference};
use crate::registry::{PrivateListener, Registry, State};
use crate::routing::Routing;
use crate::store::{DataDir, Store, StoreError};
use crate::supervisor::chronicle::Chronicler;
use crate::supervisor::{
    Cgroups, Spawner, Supervision, Supervisor, SupervisorError, log_lost_runs, reap_leftovers,
};
use crate::telemetry::Telemetry;
use crate::trace::{Collector, Exporter, Tracer};
use crate::web::{
    AskedObserver, Endpoint, Guard, Metering, Observer, Routes, Server, TlsError, TrustedProxies,
};

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
        what: String,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// A listener cannot be made.
    #[error("no listener for {what} on port {port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// What it is wanted for.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A port that only privileged processes may take.
    #[error(
        "the port {port} for {what} is not for everybody: choose one from 1024 up, or give `bkg` the capability `CAP_NET_BIND_SERVICE`"
    )]
    PortForbidden {
        /// The port.
        port: u16,
        /// What it is wanted for.
        what: String,
    },
    /// A folder that was named is no plugin's.
    #[error(transparent)]
    Plugin(#[from] NotAPlugin),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
            Self::Tls(_) | Self::Plugin(_) => 5,
            Self::Store(error) if error.is_about_damage() => 6,
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
        let host = Host::start(loaded).await?;
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
    /// Who keeps what is told of plugins.
    chronicler: Arc<Chronicler>,
    /// What plugins are configured to be.
    entries: Arc<Entries>,
    /// What the processes of plugins cost.
    pub telemetry: Arc<Telemetry>,
    /// What the host itself keeps.
    pub store: Store,
    authenticator: Arc<Authenticator>,
    changes: Arc<Changes>,
    routing: Arc<Routing>,
    live: Arc<Live>,
    exporter: Option<Exporter>,
    table: Vec<Endpoint>,
    ports: (u16, u16),
    elsewhere: Vec<SocketAddr>,
    server: JoinHandle<()>,
    bus: JoinHandle<()>,
    attendance: JoinHandle<()>,
    measuring: JoinHandle<()>,
    /// Only where plugins are developed.
    watching: Option<JoinHandle<()>>,
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
    pub async fn start(loaded: Loaded) -> Result<Self, AppError> {
        let Loaded { config, values } = loaded;
        let config = Arc::new(config);
        check_named(&config.plugin_folders)?;
        let (started_at, running_since) = (Timestamp::now(), std::time::Instant::now());
        let data = Arc::new(DataDir::open(&config.data_dir)?);
        // Before anything is made: who finds a port taken has changed nothing.
        let api = listeners::api(&config)?;
        let shared_bus = listeners::bus(config.bus_port)?;
        let store = open_store(&data).await?;
        let ports = (port_of(&api.listeners[0].socket)?, port_of(&shared_bus)?);
        let lost_runs = reap_leftovers(data.ledger()).await?;
        let cgroups = Arc::new(Cgroups::find(&config.supervisor));
        info!(confinement = cgroups.describe(), "launches are confined");
        for note in cgroups.notes() {
            info!(note, "a cgroup hierarchy is not used");
        }

        let named = config.plugin_folders.iter().map(PathBuf::as_path);
        let mut catalogue = discover(named, config.plugin_directories());
        let known_entries = entries::restore(&mut catalogue, &store).await?;
        report(&catalogue);
        let known = catalogue.ready().map(|(found, entry)| (Arc::new(entry.clone()), found.root.clone()));
        let registry = Arc::new(Registry::new(known, config.dispatch_order.clone()));
        let catalogue = Arc::new(ArcSwap::from_pointee(catalogue));
        let logs = Logs::open(
            &data.plugins(),
            LogSettings {
                ring_lines: config.logs.ring_lines,
                segment_bytes: config.logs.segment_bytes,
                segments: config.logs.segments,
                segment_age: config.logs.segment_age,
                keep: config.logs.keep,
                lines_per_second: config.logs.lines_per_second,
            },
        )?;
        log_lost_runs(&logs, &lost_runs);
        let credit = config.limits.stream_credit;
        let metrics = Arc::<Metrics>::default();
        let (tracer, exporter) = traces(&config)?;
        let dispatcher = Dispatcher::new(Arc::clone(&registry), config.queue.clone(), credit);
        let dispatcher = Arc::new(dispatcher.traced(tracer.clone()));

        let provider =
            Provider::new(config.auth_provider.clone(), Arc::clone(&registry), Arc::clone(&dispatcher));
        let authenticator = Authenticator::new(data.root_key().clone(), provider.clone());
        restore_spent(&authenticator, &store, started_at).await?;
        let changes = Changes::new(provider, store.audit.clone());
        changes.take_over().await?;

        let routing = Arc::new(Routing::open(store.settings.clone(), config.routing.clone()).await?);
        let metering = Arc::new(Metering {
            usage: store.usage.clone(),
            authenticator: Arc::clone(&authenticator),
            prices: config.prices.clone(),
            observer: AskedObserver {
                metrics: Arc::clone(&metrics),
                registry: Arc::clone(&registry),
                tracer: tracer.clone(),
            },
        });

        let stop_bus = CancellationToken::new();
        let (listeners, private) = mpsc::channel::<PrivateListener>(LISTENERS_ON_THE_WAY);
        let bus = Arc::new(Bus {
            config: Arc::clone(&config),
            registry: Arc::clone(&registry),
            dispatcher: Arc::clone(&dispatcher),
            authenticator: Arc::clone(&authenticator),
            metering: Arc::clone(&metering),
            misses: Misses::default(),
            logs: logs.clone(),
            metrics: Arc::clone(&metrics),
        });
        let bus = tokio::spawn(bus.serve(shared_bus, private, stop_bus.clone()));

        let telemetry = Telemetry::new(Arc::clone(&registry), config.telemetry_interval);
        lose_running(&store, started_at).await;
        let measured = Arc::clone(&telemetry);
        let curve = Box::new(move |plugin: &PluginName, run| measured.curve(plugin, run));
        let chronicler = Chronicler::start(store.runs.clone(), curve);
        let supervisor = Arc::new(Supervisor::start(Supervision {
            config: Arc::clone(&config),
            registry: Arc::clone(&registry),
            logs: logs.clone(),
            data: Arc::clone(&data),
            cgroups,
            chronicler: Arc::clone(&chronicler),
            spawner: Spawner::start(tokio::runtime::Handle::current()).map_err(SupervisorError::from)?,
            listeners,
            environment: std::env::vars_os().collect(),
        }));

        let starter = Arc::downgrade(&supervisor);
        registry.start_with(move |plugin| {
            if let Some(supervisor) = starter.upgrade() {
                supervisor.start_on_demand(plugin);
            }
        });
        let times = &config.supervisor;
        let entries = Entries::new(
            known_entries,
            &store,
            Arc::clone(&registry),
            Arc::clone(&supervisor),
            times.drain + times.grace + times.register_timeout,
        );
        entries.begin().await;
        let entries = Arc::new(entries);
        let measuring = tokio::spawn(Arc::clone(&telemetry).run(stop_bus.clone()));

        let attendance = Attendance::new(
            Arc::clone(&authenticator),
            Arc::clone(&changes),
            store.settings.clone(),
            Arc::clone(&data),
            first_password(),
        );
        let attended = attendance.attended();
        let attendance = tokio::spawn(attendance.run(stop_bus.clone()));

        let stop_server = CancellationToken::new();
        let workshop = config.dev.then(|| Workshop {
            config: Arc::clone(&config),
            registry: Arc::clone(&registry),
            entries: Arc::clone(&entries),
            supervisor: Arc::clone(&supervisor),
            logs: logs.clone(),
            catalogue: Arc::clone(&catalogue),
        });
        let watching = workshop.map(|workshop| tokio::spawn(workshop.run(stop_server.clone())));
        let guard = Guard::new(Arc::clone(&authenticator), &config.host_names(), config.http.clone());
        let gateway = Gateway::new(
            Arc::clone(&dispatcher),
            Arc::clone(&registry),
            Arc::clone(&routing),
            config.http.clone(),
            Arc::clone(&metering),
        );
        let gateway = Arc::new(gateway);
        let plugin_routes = Arc::new(PluginRoutes {
            dispatcher: Arc::clone(&dispatcher),
            registry: Arc::clone(&registry),
            limits: config.http.clone(),
            frames: config.limits.clone(),
            metering: Arc::clone(&metering),
            logs: logs.clone(),
        });
        let operator = Arc::new(Admin {
            config: Arc::clone(&config),
            config_values: values,
            catalogue: Arc::clone(&catalogue),
            registry: Arc::clone(&registry),
            supervisor: Arc::clone(&supervisor),
            chronicler: Arc::clone(&chronicler),
            entries: Arc::clone(&entries),
            dispatcher: Arc::clone(&dispatcher),
            routing: Arc::clone(&routing),
            backups: Arc::new(Backups::new(
                Arc::clone(&data),
                store.clone(),
                Arc::clone(&registry),
                Arc::clone(&dispatcher),
                Arc::clone(&supervisor),
            )),
            logs: logs.clone(),
            telemetry: Arc::clone(&telemetry),
            audit: store.audit.clone(),
            usage: store.usage.clone(),
            storage: store.condition(),
            ports,
            listen: api.elsewhere.clone(),
            stopping: stop_server.clone(),
            started_at,
            running_since,
            metrics: Arc::clone(&metrics),
            spans: exporter.as_ref().map(Exporter::counts),
        });
        let applications = Arc::new(Api {
            registry: Arc::clone(&registry),
            dispatcher: Arc::clone(&dispatcher),
            telemetry: Arc::clone(&telemetry),
            limits: config.http.clone(),
            metering,
        });
        let accounts = Accounts::new(
            Arc::clone(&authenticator),
            Arc::clone(&changes),
            store.audit.clone(),
            Arc::clone(&data),
            &config.http,
        );
        let live = Live::start(live::Sources {
            registry: Arc::clone(&registry),
            catalogue,
            logs: logs.clone(),
            telemetry: Arc::clone(&telemetry),
            audit: store.audit.clone(),
            authenticator: Arc::clone(&authenticator),
            metrics: Arc::clone(&metrics),
        })
        .await?;
        let observed = Routes::new(guard).observed(Observer { metrics, tracer });
        let routes = gateway::routes(observed, &gateway);
        let routes = plugin_routes::routes(routes, &plugin_routes);
        let routes = accounts::routes(admin::routes(routes, &operator), &Arc::new(accounts));
        let routes = live::routes(api::routes(routes, &applications), &live);
        let reference = Arc::new(Reference::new(Arc::clone(&registry)));
        let routes = reference::routes(routes, &reference);
        reference.describe(routes.table());
        let table = routes.table().to_vec();
        let server = Server::new(routes.into_router(), config.http.clone(), config.supervisor.drain)
            .behind(TrustedProxies::new(&config.trusted_proxies));
        let serving = server.run(api.listeners, stop_server.clone());
        let renewing = api.tls.map(|tls| tls.renew(stop_server.clone()));
        let server = tokio::spawn(async move {
            tokio::join!(serving, OptionFuture::from(renewing));
        });
        // Whoever finds the file may rely on a host that is ready, so it comes last.
        provider_is_up(&config, &registry, attended).await;
        let ports_file = ports::keep(&data, &registry, ports, &api.elsewhere, started_at).await;
        Ok(Self {
            data,
            registry,
            logs,
            dispatcher,
            supervisor,
            chronicler,
            entries,
            telemetry,
            table,
            ports,
            elsewhere: api.elsewhere,
            store,
            authenticator,
            changes,
            routing,
            live,
            exporter,
            server,
            bus,
            attendance,
            measuring,
            watching,
            ports_file,
            stop_server,
            stop_bus,
        })
    }

    /// The ports of the HTTP listener and of the shared bus.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// The addresses of `api.listen`, with the ports that were free.
    pub fn elsewhere(&self) -> &[SocketAddr] {
        &self.elsewhere
    }

    /// Every route with the access that it declares.
    pub fn routes(&self) -> &[Endpoint] {
        &self.table
    }

    /// Stops accepting, lets open requests end within the drain, stops every plugin, and leaves
    /// nothing behind.
    pub async fn stop(self) {
        self.stop_server.cancel();
        let _ = self.server.await;
        if let Some(watching) = self.watching {
            let _ = watching.await;
        }
        self.live.finish().await;
        self.changes.finish().await;
        self.routing.finish().await;
        self.supervisor.shut_down().await;
        self.chronicler.close().await;
        self.entries.finish().await;
        self.stop_bus.cancel();
        let _ = self.bus.await;
        let _ = self.attendance.await;
        let _ = self.measuring.await;
        self.authenticator.finish().await;
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
        self.ports_file.abort();
        let _ = self.ports_file.await;
        let (data, logs, store) = (self.data, self.logs, self.store);
        let closing = tokio::task::spawn_blocking(move || {
            if !logs.close() {
                warn!("the last log lines of plugins could not be written in time");
            }
            if let Err(error) = store.close() {
                warn!(%error, "the host's database could not be closed in order");
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

/// Who records spans, and who hands them to the collector where there is one.
fn traces(config: &HostConfig) -> Result<(Tracer, Option<Exporter>), AppError> {
    let Some(url) = config.otlp.traces_url() else { return Ok((Tracer::off(), None)) };
    info!(url, "traces are handed to a collector");
    let collector = Collector {
        url,
        headers: config.otlp.headers.as_pairs().to_vec(),
        sample_ratio: config.otlp.sample_ratio,
        service_name: config.otlp.service_name.clone(),
    };
    let (tracer, exporter) = Exporter::start(collector)?;
    Ok((tracer, Some(exporter)))
}

async fn open_store(data: &Arc<DataDir>) -> Result<Store, StoreError> {
    let data = Arc::clone(data);
    let opening = tokio::task::spawn_blocking(move || Store::open(&data));
    opening.await.expect("opening the store does not panic")
}

/// Says of the runs that a killed host left that they are lost. What is told of plugins is not worth a host
/// that does not start.
async fn lose_running(store: &Store, at: Timestamp) {
    match store.runs.lose_running(at).await {
        Ok(0) => {}
        Ok(runs) => warn!(runs, "runs of plugins ended with an earlier host"),
        Err(error) => warn!(%error, "runs that an earlier host left go on in what is told of plugins"),
    }
}

/// The password of the first administrator, if the operator chose one.
fn first_password() -> FirstPassword {
    match std::env::var("ADMIN_PASSWORD") {
        Ok(password) if !password.is_empty() => FirstPassword::Chosen(Secret::new(password)),
        _ => FirstPassword::Generated,
    }
}

/// Has limits start with what keys and users have used of this day and this month.
async fn restore_spent(
    authenticator: &Authenticator,
    store: &Store,
    now: Timestamp,
) -> Result<(), StoreError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let begin = |date: jiff::civil::Date| {
        date.to_zoned(TimeZone::UTC).map_or(Timestamp::UNIX_EPOCH, |begin| begin.timestamp())
    };
    let used = store.usage.used_so_far(begin(today), begin(today.first_of_month())).await?;
    let spent = used.into_iter().map(|used| {
        let holder = match used.key_id {
            Some(id) => Holder::Key(id.into()),
            None => Holder::User(used.user.into()),
        };
        let spent = Spent {
            tokens_today: used.tokens_today,
            money_today: used.money_today,
            money_this_month: used.money_this_month,
        };
        (holder, spent)
    });
    authenticator.restore_spent(spent, now);
    Ok(())
}

/// Waits until the auth provider has been attended to, or is not going to come soon: the root key
/// opens the door in any case.
async fn provider_is_up(config: &HostConfig, registry: &Registry, mut attended: watch::Receiver<bool>) {
    let name = config.auth_provider.as_str();
    let mut was_started = false;
    let will_not_come = registry.until(|view| {
        let Some(record) = view.plugin(name) else { return Some("no plugin has this name") };
        let rests = matches!(record.state(), State::Stopped | State::Failed | State::Backoff);
        was_started |= !rests || !record.entry.autostart;
        (rests && was_started).then_some("it does not run")
    });
    let why = tokio::select! {
        biased;
        _ = attended.wait_for(|attended| *attended) => return,
        why = will_not_come => why,
        () = tokio::time::sleep(config.supervisor.register_timeout) => "it takes its time",
    };
    warn!(provider = name, why, "credentials cannot be checked yet: only the root key opens anything");
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
