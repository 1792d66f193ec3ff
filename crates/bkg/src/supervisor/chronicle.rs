//! What is told of plugins afterwards: every change of state, and every run with its crash card.
//!
//! Not the log of a plugin, and not its state now. Seats tell it to a `Chronicle` of their own; one task
//! writes it into the store. The invariants: nobody waits for the disk, and what could not be kept is
//! counted and said. `app` starts and closes the [`Chronicler`], `admin` reads what it wrote.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bkg_protocol::{InstanceId, PluginName};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::exit::ExitCause;
use crate::config::PluginEntry;
use crate::registry::State;
use crate::store::{
    OpenRequest, PluginEvent, ResourcePoint, Run, RunCard, RunExit, RunOutcome, Runs, StoreError, Story,
};

/// How much may be on its way to the store. What comes while it is full is not kept, but counted: a disk
/// that does not answer must not stop a plugin from being started. With whole cards it is about 5 MB.
const ON_THE_WAY: usize = 256;
/// How long until a store that refused is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long whoever reads waits for what is on its way to the store.
const KEPT_WITHIN: Duration = Duration::from_secs(1);
/// How many points of a resource curve a card keeps.
const MOST_POINTS: usize = 120;

/// What a run used until now, the oldest first.
pub type Curve = Box<dyn Fn(&PluginName, InstanceId) -> Vec<ResourcePoint> + Send + Sync>;

/// Keeps what seats tell.
pub struct Chronicler {
    runs: Runs,
    curve: Curve,
    notes: mpsc::Sender<Note>,
    missed: Arc<AtomicU64>,
    /// Whether the store has refused what it was given last, and is asked again.
    refuses: Arc<AtomicBool>,
    task: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for Chronicler {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Chronicler").field("missed", &self.missed()).finish_non_exhaustive()
    }
}

enum Note {
    Story(Story),
    /// Hears when all before it is kept, or given up.
    Asked(oneshot::Sender<()>),
}

impl Chronicler {
    /// Starts to keep; `curve` knows what processes used.
    pub fn start(runs: Runs, curve: Curve) -> Arc<Self> {
        let (notes, receiver) = mpsc::channel(ON_THE_WAY);
        let (missed, refuses) = (Arc::default(), Arc::default());
        let (task, stop) = (TaskTracker::new(), CancellationToken::new());
        task.spawn(write(runs.clone(), receiver, Arc::clone(&missed), Arc::clone(&refuses), stop.clone()));
        task.close();
        Arc::new(Self { runs, curve, notes, missed, refuses, task, stop })
    }

    /// What is kept, with all that was told before this; without what a store that refuses or does not
    /// answer has not taken within a second.
    pub async fn up_to_now(&self) -> &Runs {
        // Nor are places taken in the queue for questions that nobody waits for any more.
        if self.refuses.load(Ordering::Relaxed) {
            return &self.runs;
        }
        let (heard, hears) = oneshot::channel();
        let kept = async {
            // Waits for room in the queue; a writer that is gone hears nothing any more.
            if self.notes.send(Note::Asked(heard)).await.is_ok() {
                let _ = hears.await;
            }
        };
        let _ = timeout(KEPT_WITHIN, kept).await;
        &self.runs
    }

    /// How much could not be kept since the host started.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Writes what was told, and ends. What is told later is not kept.
    pub async fn close(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }

    fn tell(&self, story: Story) {
        if self.notes.try_send(Note::Story(story)).is_err()
            && self.missed.fetch_add(1, Ordering::Relaxed) == 0
        {
            warn!(
                "what happens to plugins cannot be kept as fast as it happens: `missed` counts what is lost"
            );
        }
    }
}

/// Writes everything that is told, in order; what the store refuses is tried again until it takes it or the
/// host stops.
async fn write(
    runs: Runs,
    mut notes: mpsc::Receiver<Note>,
    missed: Arc<AtomicU64>,
    refuses: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let mut taken = Vec::with_capacity(ON_THE_WAY);
    loop {
        tokio::select! {
            biased;
            count = notes.recv_many(&mut taken, ON_THE_WAY) => if count == 0 { return },
            () = stop.cancelled() => return,
        }
        let mut waiting = Vec::new();
        let mut story = Vec::new();
        for note in taken.drain(..) {
            match note {
                Note::Story(one) => story.push(one),
                Note::Asked(heard) => waiting.push(heard),
            }
        }
        let count = story.len();
        if let Err(error) = keep(&runs, story, &mut waiting, &refuses, &stop).await {
            missed.fetch_add(count as u64, Ordering::Relaxed);
            warn!(%error, count, "what happened to plugins was not kept");
        }
        for heard in waiting {
            let _ = heard.send(());
        }
    }
}

async fn keep(
    runs: &Runs,
    story: Vec<Story>,
    waiting: &mut Vec<oneshot::Sender<()>>,
    refuses: &AtomicBool,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    if story.is_empty() {
        return Ok(());
    }
    loop {
        let Err(error) = runs.keep(story.clone()).await else {
            if refuses.swap(false, Ordering::Relaxed) {
                info!("what happens to plugins is kept again");
            }
            return Ok(());
        };
        if !refuses.swap(true, Ordering::Relaxed) {
            warn!(%error, "what happens to plugins cannot be kept: it is tried again");
        }
        // Whoever reads gets what there is.
        for heard in waiting.drain(..) {
            let _ = heard.send(());
        }
        if stop.run_until_cancelled(tokio::time::sleep(TRY_AGAIN_AFTER)).await.is_none() {
            return Err(error);
        }
    }
}

/// What one seat tells.
#[derive(Debug)]
pub(super) struct Chronicle {
    chronicler: Arc<Chronicler>,
    plugin: PluginName,
    seat: u32,
    now: Mutex<Now>,
}

/// What was told last.
#[derive(Debug, Default)]
struct Now {
    run: Option<Run>,
    state: Option<(State, Option<String>)>,
}

/// A run that begins.
pub(super) struct Began<'a> {
    pub(super) id: InstanceId,
    pub(super) pid: u32,
    pub(super) entry: &'a PluginEntry,
    pub(super) restarts: u32,
    /// What bounds it and keeps it together.
    pub(super) mechanism: Option<Value>,
}

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: RunOutcome,
    /// Why, in one sentence.
    pub(super) reason: String,
    pub(super) exit: Option<ExitCause>,
    pub(super) last_stderr: Vec<String>,
    pub(super) in_flight: Vec<OpenRequest>,
}

impl Chronicle {
    /// `seat` counts from 0.
    pub(super) fn new(chronicler: Arc<Chronicler>, plugin: PluginName, seat: usize) -> Self {
        Self { chronicler, plugin, seat: seat as u32 + 1, now: Mutex::default() }
    }

    /// A state was entered. The same state for the same reason is no news.
    pub(super) fn entered(&self, state: State, reason: Option<String>) {
        let mut now = self.lock();
        let entered = Some((state, reason.clone()));
        if now.state == entered {
            return;
        }
        now.state = entered;
        let event = PluginEvent {
            number: 0,
            run: now.run.as_ref().map(|run| run.id),
            seat: self.seat,
            at: Timestamp::now(),
            state: state.as_str().to_owned(),
            reason,
        };
        self.chronicler.tell(Story::Event(self.plugin.clone(), event));
    }

    /// A process was started.
    pub(super) fn began(&self, began: &Began<'_>) {
        let run = Run {
            id: began.id,
            plugin: self.plugin.clone(),
            seat: self.seat,
            version: began.entry.version.clone(),
            revision: began.entry.revision,
            pid: began.pid,
            started_at: Timestamp::now(),
            registered_at: None,
            ended_at: None,
            outcome: RunOutcome::Running,
            exit: None,
            reason: None,
            restarts: began.restarts,
            mechanism: began.mechanism.clone(),
        };
        self.put(run, RunCard::default());
    }

    /// It has registered; what it says of its version counts from here on.
    pub(super) fn registered(&self, version: Option<&str>) {
        let Some(mut run) = self.lock().run.clone() else { return };
        run.registered_at.get_or_insert_with(Timestamp::now);
        if let Some(version) = version {
            version.clone_into(&mut run.version);
        }
        self.put(run, RunCard::default());
    }

    /// Nothing is left of it.
    pub(super) fn ended(&self, ended: Ended) {
        let Some(run) = self.lock().run.take() else { return };
        let resources = thinned((self.chronicler.curve)(&self.plugin, run.id));
        let card = RunCard { last_stderr: ended.last_stderr, in_flight: ended.in_flight, resources };
        let run = Run {
            ended_at: Some(Timestamp::now()),
            outcome: ended.outcome,
            exit: ended.exit.map(|exit| exit.told()),
            reason: Some(ended.reason),
            ..run
        };
        self.chronicler.tell(Story::Run(Box::new((run, card))));
    }

    fn put(&self, run: Run, card: RunCard) {
        self.lock().run = Some(run.clone());
        self.chronicler.tell(Story::Run(Box::new((run, card))));
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExitCause {
    /// The cause as runs keep it.
    fn told(self) -> RunExit {
        let text = self.to_string();
        match self {
            Self::Exited { code, oom } => {
                RunExit { code: Some(code), signal: None, oom: oom.is_some(), text }
            }
            Self::Killed { signal, memory_ran_out, oom, .. } => {
                let oom = memory_ran_out || oom.is_some();
                RunExit { code: None, signal: Some(signal), oom, text }
            }
        }
    }
}

/// So many points of a curve, evenly; the first and the last are among them.
fn thinned(points: Vec<ResourcePoint>) -> Vec<ResourcePoint> {
    let count = points.len();
    if count <= MOST_POINTS {
        return points;
    }
    (0..MOST_POINTS).map(|number| points[number * (count - 1) / (MOST_POINTS - 1)].clone()).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::{DataDir, Store};

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_does_not_wait_for_a_store_that_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let store = Store::open(&data).unwrap();
        let (notes, _writer_that_waits) = mpsc::channel(1);
        let curve: Curve = Box::new(|_, _| Vec::new());
        let (task, stop) = (TaskTracker::new(), CancellationToken::new());
        let chronicler = Chronicler {
            runs: store.runs.clone(),
            curve,
            notes,
            missed: Arc::default(),
            refuses: Arc::default(),
            task,
            stop,
        };
        // The first finds room in the queue, the second does not.
        for _ in 0..2 {
            timeout(KEPT_WITHIN * 10, chronicler.up_to_now()).await.expect("what there is is read");
        }
        // Where it is known to refuse, nobody waits at all.
        chronicler.refuses.store(true, Ordering::Relaxed);
        assert!(chronicler.up_to_now().now_or_never().is_some());
        store.close().unwrap();
    }

    fn point(number: u64) -> ResourcePoint {
        ResourcePoint { at: Timestamp::UNIX_EPOCH, cpu: 0.0, rss: number, fds: 0, threads: 0 }
    }

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_ends() {
        let thin = thinned((0..1_800).map(point).collect());
        assert_eq!((thin.len(), thin[0].rss, thin[119].rss), (120, 0, 1_799));
        assert!(thin.windows(2).all(|pair| pair[0].rss < pair[1].rss));
        assert_eq!(thinned((0..120).map(point).collect()).len(), 120);
    }

    #[test]
    fn an_exit_is_told_with_its_code_or_its_signal() {
        let killed = ExitCause::Killed { signal: 9, dumped_core: false, memory_ran_out: true, oom: None };
        let text = "killed by SIGKILL while the machine was out of memory".to_owned();
        assert_eq!(killed.told(), RunExit { code: None, signal: Some(9), oom: true, text });
        let text = "exited with code 3".to_owned();
        let exited = ExitCause::Exited { code: 3, oom: None };
        assert_eq!(exited.told(), RunExit { code: Some(3), signal: None, oom: false, text });
    }
}
