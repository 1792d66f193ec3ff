//! Carries a swap out: the task that brings a new version up to the gate, tries it, decides, and sees the
//! version before off.
//!
//! The invariants: until the decision nothing changes for anybody; the decision is one change of the
//! registry; and whatever ends a swap, the version that does not serve is gone when its task ends. One
//! swap of a plugin is under way at a time: a later one waits until the one before is settled.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::InstanceId;
use bkg_protocol::message::{Condition, LogLevel};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::probe;
use super::swap::{Share, SwapOrder, SwapOutcome, SwapRefused, SwapStage, SwapTicket};
use super::team::{Role, Team, Version};
use super::{Row, Teams, Wanted};
use crate::registry::{
    Instance, NotHandedOver, PluginRecord, Side, SwapState, SwapStory, Takeover, TeamId, TrafficShare,
    VersionStory,
};
use crate::store::RunOutcome;

/// How many earlier versions of a plugin may still finish what they have.
const MOST_LEAVING: usize = 8;
/// How often the figures of two versions are compared.
const COMPARE_EVERY: Duration = Duration::from_millis(200);

/// How soon an instance is probed again that did not pass.
const PROBE_AGAIN: Duration = Duration::from_millis(200);

/// A swap that is not settled yet, as those see it who may end it.
#[derive(Debug)]
pub(super) struct Underway {
    number: u64,
    interruption: watch::Sender<Option<Interruption>>,
    outcome: watch::Receiver<Option<SwapOutcome>>,
}

/// What ends a swap before it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interruption {
    /// The plugin was stopped.
    Stopped,
    /// The plugin was started again.
    Restarted,
    /// Another swap was ordered.
    Superseded,
    /// The host stops.
    HostStops,
}

impl Interruption {
    fn reason(self) -> &'static str {
        match self {
            Self::Stopped => "the plugin was stopped meanwhile",
            Self::Restarted => "the plugin was started again meanwhile",
            Self::Superseded => "another swap took its place",
            Self::HostStops => "the host stopped meanwhile",
        }
    }
}

/// Why a new version does not take over.
enum Setback {
    Interrupted(Interruption),
    Failed(String),
}

/// A swap with all that its task needs.
struct Swap {
    row: Arc<Row>,
    order: SwapOrder,
    story: SwapStory,
    previous: Option<watch::Receiver<Option<SwapOutcome>>>,
    interruption: watch::Receiver<Option<Interruption>>,
    /// Whether the new version has the plugin's name.
    serves: watch::Sender<bool>,
    outcome: watch::Sender<Option<SwapOutcome>>,
    departed: watch::Sender<Option<u32>>,
}

impl Teams {
    /// Ends the swap that is not decided yet, if there is one.
    pub(super) fn interrupt(&self, interruption: Interruption) {
        if let Some(swap) = &self.swap {
            swap.interruption.send_if_modified(|known| {
                let is_first = known.is_none();
                *known = known.or(Some(interruption));
                is_first
            });
        }
    }
}

impl Row {
    /// Begins a swap.
    pub(super) fn swap(self: &Arc<Self>, order: SwapOrder) -> Result<SwapTicket, SwapRefused> {
        let plugin = &self.plugin;
        if order.entry.name != plugin.name {
            let other = order.entry.name.clone();
            return Err(SwapRefused::OtherName { plugin: plugin.name.clone(), other });
        }
        if let Some(Share { percent, .. }) = order.share {
            if !(1..=99).contains(&percent) {
                return Err(SwapRefused::Percent(percent));
            }
            if !order.entry.may_overlap() {
                return Err(SwapRefused::NoShare(plugin.name.clone()));
            }
        }
        let mut teams = self.lock_teams();
        if plugin.stop.is_cancelled() {
            return Err(SwapRefused::Stopping);
        }
        let count = teams.others.len();
        if count > MOST_LEAVING {
            return Err(SwapRefused::TooManyVersions { plugin: plugin.name.clone(), count });
        }
        teams.interrupt(Interruption::Superseded);
        teams.swaps += 1;
        let number = teams.swaps;
        let (interrupt, interruption) = watch::channel(None);
        let (serves, decided) = watch::channel(false);
        let (outcome, settled) = watch::channel(None);
        let (departed, gone) = watch::channel(None);
        let underway = Underway { number, interruption: interrupt, outcome: settled.clone() };
        let previous = teams.swap.replace(underway).map(|previous| previous.outcome);
        let story = SwapStory {
            number,
            state: SwapState::Starting,
            why: order.why.clone(),
            since: Timestamp::now(),
            share: order.share.map(Into::into),
            from: None,
            to: None,
            reason: None,
            cut: None,
        };
        let swap =
            Swap { row: Arc::clone(self), order, story, previous, interruption, serves, outcome, departed };
        plugin.tasks.spawn(swap.run());
        Ok(SwapTicket { number, serves: decided, outcome: settled, departed: gone })
    }

    /// Seats for a version that is to take over; its processes start at once.
    fn recruit(self: &Arc<Self>, version: Version) -> Arc<Team> {
        let mut teams = self.lock_teams();
        teams.newest = TeamId(teams.newest.0 + 1);
        let count = version.entry.instances as usize;
        let team = Team::new(teams.newest, Role::Waits(version));
        teams.others.push(Arc::clone(&team));
        self.plugin.set_count(team.id, count);
        team.set_count(&self.plugin, 0, count, Wanted { up: true, ..Wanted::default() });
        team
    }

    /// Puts another version into rotation in the place of the one that serves, which is kept; answers
    /// that one. The word of whoever stops the plugin comes before this or after it.
    fn hand_over(
        &self,
        number: u64,
        to: &Arc<Team>,
        version: Version,
        replaces: &Version,
        ready: usize,
    ) -> Result<Arc<Team>, NotTaken> {
        let mut teams = self.lock_teams();
        let is_ours = |swap: &Underway| swap.number == number && swap.interruption.borrow().is_none();
        if !teams.swap.as_ref().is_some_and(is_ours) || self.plugin.stop.is_cancelled() {
            return Err(NotTaken::Interrupted);
        }
        let plugin = &self.plugin;
        let mut board = plugin.lock_board();
        let status = board.teams.get(&to.id).expect("a version with seats is on the board").sum_up();
        plugin.supervision.registry.hand_over(
            &plugin.name,
            Takeover {
                team: to.id,
                status,
                entry: version.entry,
                root: version.root,
                replaces: &replaces.entry,
                ready,
            },
        )?;
        board.serving = to.id;
        let from = std::mem::replace(&mut teams.serving, Arc::clone(to));
        teams.others.retain(|team| team.id != to.id);
        teams.others.push(Arc::clone(&from));
        to.set_role(Role::Serves);
        from.set_role(Role::Waits(replaces.clone()));
        Ok(from)
    }

    pub(super) fn is_wanted(&self) -> bool {
        let teams = self.lock_teams();
        teams.serving.is_wanted(self.plugin.count(teams.serving.id))
    }

    /// Has the seats of the version that serves started anew, unless somebody stopped it.
    fn start_anew(&self, team: &Team, count: usize) {
        let _order = self.lock_teams();
        if team.is_wanted(count) {
            team.start_anew(count);
        }
    }

    /// Gives the plugin the entry of the new version and has its seats started anew; answers whose they
    /// are, for which word, and whether they were wanted up before.
    fn begin_in_place(
        &self,
        number: u64,
        old: &Version,
        new: &Version,
        why: &str,
    ) -> Result<(Arc<Team>, u64, bool), String> {
        let plugin = &self.plugin;
        let teams = self.lock_teams();
        let interruption = teams.swap.as_ref().filter(|swap| swap.number == number);
        let interruption =
            interruption.map_or(Some(Interruption::Superseded), |swap| *swap.interruption.borrow());
        if let Some(interruption) = interruption {
            return Err(interruption.reason().to_owned());
        }
        let registry = &plugin.supervision.registry;
        if !registry.exchange(&plugin.name, &old.entry, Arc::clone(&new.entry), new.root.clone()) {
            return Err(NotHandedOver::EntryChanged.to_string());
        }
        let team = Arc::clone(&teams.serving);
        let before = plugin.count(team.id);
        let was_up = team.is_wanted(before);
        let count = new.entry.instances as usize;
        if count != before {
            plugin.set_count(team.id, count);
            team.set_count(plugin, before, count, Wanted::default());
        }
        plugin.set_because(Some(why.to_owned()));
        registry.release(&plugin.name);
        let generation = team.start_anew(count);
        Ok((team, generation, was_up))
    }

    /// Forgets a version whose seats are gone.
    fn forget(&self, team: &Team) {
        self.lock_teams().others.retain(|other| other.id != team.id);
        self.plugin.lock_board().teams.remove(&team.id);
    }
}

/// Why the decision was not made.
enum NotTaken {
    /// Somebody ended the swap.
    Interrupted,
    Registry(NotHandedOver),
}

impl From<NotHandedOver> for NotTaken {
    fn from(why: NotHandedOver) -> Self {
        Self::Registry(why)
    }
}

impl Swap {
    async fn run(mut self) {
        if let Some(mut previous) = self.previous.take() {
            // It was told to end, and does so or is decided within its own limits.
            let _ = previous.wait_for(Option::is_some).await;
        }
        let plugin = Arc::clone(&self.row.plugin);
        let Some(before) = plugin.supervision.registry.plugin(plugin.name.as_str()) else { return };
        self.story.from = Some(VersionStory { version: before.version(), revision: before.entry.revision });
        let entry = &self.order.entry;
        self.story.to = Some(VersionStory { version: entry.version.clone(), revision: entry.revision });
        let is_up = !before.instances.is_empty() && self.row.is_wanted();
        let beside = is_up && before.entry.may_overlap() && entry.may_overlap();
        self.tell(SwapState::Starting, None);
        plugin.log(LogLevel::Info, format!("a swap begins: {}", self.order.why));
        if beside {
            self.beside(&before).await;
        } else {
            self.in_place(&before).await;
        }
    }

    /// The new version starts beside the one that serves.
    async fn beside(mut self, before: &PluginRecord) {
        let old = Version { entry: Arc::clone(&before.entry), root: before.root.clone() };
        let new = self.version();
        let team = self.row.recruit(new.clone());
        let mut stage = SwapStage::Gate;
        let from = loop {
            if let Err(setback) = self.unless_ended(self.pass_gate(&team, 0, &[])).await {
                return self.give_up(&team, stage, setback).await;
            }
            if let Some(registered) = self.version_of(team.id) {
                self.story.to = Some(registered);
            }
            if let Some(share) = self.order.share
                && stage == SwapStage::Gate
            {
                stage = SwapStage::Share;
                self.tell(SwapState::Sharing, None);
                if let Err(setback) = self.unless_ended(self.try_out(&team, share)).await {
                    return self.give_up(&team, stage, setback).await;
                }
            }
            let ready = new.entry.instances as usize;
            match self.row.hand_over(self.story.number, &team, new.clone(), &old, ready) {
                Ok(from) => break from,
                // One has left in the last moment: it comes back, or the gate says that it failed.
                Err(NotTaken::Registry(NotHandedOver::TooFew { .. })) => {}
                Err(NotTaken::Registry(why)) => {
                    return self.give_up(&team, stage, Setback::Failed(why.to_string())).await;
                }
                Err(NotTaken::Interrupted) => {
                    let setback = Setback::Interrupted(self.interrupted().await);
                    return self.give_up(&team, stage, setback).await;
                }
            }
        };
        self.serves.send_replace(true);
        self.tell(SwapState::Holding, None);
        if let Some(reason) = self.hold(&team).await
            && self.row.hand_over(self.story.number, &from, old, &new, 1).is_ok()
        {
            // Those of its processes that ended meanwhile are started again.
            let count = self.row.plugin.count(from.id);
            from.change(count, |wanted| Wanted { starts: wanted.starts + 1, ..wanted });
            return self.give_up_for(&team, SwapStage::Hold, reason).await;
        }
        self.see_off(&from).await;
    }

    /// Completes when the new version has passed the gate: `count` of its instances are registered, well,
    /// and have answered their probe. `generation` is the word that its processes were started for,
    /// `before` are launches that do not count.
    async fn pass_gate(&self, team: &Team, generation: u64, before: &[InstanceId]) -> Result<(), String> {
        tokio::select! {
            biased;
            reason = team.failure_since(generation) => Err(reason),
            passed = self.all_ready(team.id, before) => passed,
        }
    }

    async fn all_ready(&self, team: TeamId, before: &[InstanceId]) -> Result<(), String> {
        let plugin = &self.row.plugin;
        let registry = &plugin.supervision.registry;
        let count = self.order.entry.instances as usize;
        let sessions = |record: &PluginRecord| -> Vec<Arc<Instance>> {
            record.sessions_of(team).filter(|session| !before.contains(&session.id)).cloned().collect()
        };
        let within = plugin.supervision.config.supervisor.register_timeout;
        // Its seats see to it that they register in time.
        let registered = |view: &crate::registry::View| {
            let sessions = sessions(view.plugin(plugin.name.as_str())?);
            (sessions.len() >= count).then_some(sessions)
        };
        registry.until(registered).await;
        let is_well = |session: &Arc<Instance>| session.condition() == Condition::Healthy;
        let well = registry.until(|view| registered(view).filter(|sessions| sessions.iter().all(is_well)));
        let sessions = timeout(within, well).await.map_err(|_| {
            format!("it registered and did not become healthy within {} ms", within.as_millis())
        })?;
        let probes = sessions.iter().map(|session| self.probed(session, within));
        join_all(probes).await.into_iter().collect()
    }

    /// Asks an instance until it passes its health probe, where the entry has one: what it listens on may
    /// come later than its session.
    async fn probed(&self, session: &Arc<Instance>, within: Duration) -> Result<(), String> {
        let Some(probe) = &self.order.entry.healthcheck else { return Ok(()) };
        let registry = &self.row.plugin.supervision.registry;
        let until = Instant::now() + within;
        loop {
            let Err(missed) = probe::passes(registry, probe, session).await else { return Ok(()) };
            if Instant::now() >= until {
                return Err(missed);
            }
            sleep(PROBE_AGAIN).await;
        }
    }

    /// Shares the requests out and compares both versions.
    async fn try_out(&self, team: &Team, share: Share) -> Result<(), String> {
        let plugin = &self.row.plugin;
        let registry = &plugin.supervision.registry;
        let shared = Arc::new(TrafficShare::new(team.id, share.percent));
        registry.set_share(&plugin.name, Some(Arc::clone(&shared)));
        let compare = async {
            let until = Instant::now() + share.observe;
            while Instant::now() < until {
                sleep(COMPARE_EVERY.min(until - Instant::now())).await;
                if let Some(worse) = shared.verdict() {
                    return Err(format!("it is worse than the version before: {worse}"));
                }
            }
            Ok(())
        };
        let tried = tokio::select! {
            biased;
            reason = team.failure_since(0) => Err(reason),
            reason = self.unwell(team.id) => Err(reason),
            compared = compare => compared,
        };
        let (serving, trial) = (shared.figures(Side::Serving), shared.figures(Side::Trial));
        plugin.log(
            LogLevel::Info,
            format!(
                "the new version answered {} requests, {} of them with a failure, 95 of 100 within {} ms; \
                 the one before {}, {} and {} ms",
                trial.answered,
                trial.failed,
                trial.p95.as_millis(),
                serving.answered,
                serving.failed,
                serving.p95.as_millis()
            ),
        );
        tried
    }

    /// Keeps the version before for a while; answers why it has to come back, if it has to.
    async fn hold(&self, team: &Team) -> Option<String> {
        let hold = self.row.plugin.supervision.config.supervisor.swap_hold;
        tokio::select! {
            biased;
            _ = self.interrupted() => None,
            reason = team.failure_since(0) => Some(reason),
            reason = self.unwell(team.id) => Some(reason),
            () = sleep(hold) => None,
        }
    }

    /// Completes when an instance of a version says that it is down.
    async fn unwell(&self, team: TeamId) -> String {
        let plugin = &self.row.plugin;
        let is_down = |session: &Arc<Instance>| session.condition() == Condition::Down;
        let found = plugin.supervision.registry.until(|view| {
            let record = view.plugin(plugin.name.as_str())?;
            record.sessions_of(team).any(is_down).then_some(())
        });
        found.await;
        "one of its instances says that it is down".to_owned()
    }

    /// The new version is decided for: the one before finishes what it has, and goes.
    async fn see_off(mut self, from: &Team) {
        let name = |version: &Option<VersionStory>| version.clone().expect("both versions are known");
        let outcome = SwapOutcome::Swapped { from: name(&self.story.from), to: name(&self.story.to) };
        let drain = self.drain();
        self.tell(SwapState::Draining, None);
        self.settle(outcome);
        from.ends_as(RunOutcome::Swapped);
        from.dismiss(drain);
        from.gone().await;
        self.row.forget(from);
        let cut = from.cut();
        self.story.cut = Some(cut);
        self.tell(SwapState::Swapped, None);
        let line = match cut {
            0 => "the swap is done: the version before has answered everything and is gone".to_owned(),
            cut => {
                format!("the swap is done: the version before is gone, and {cut} of its requests were cut")
            }
        };
        self.row.plugin.log(if cut == 0 { LogLevel::Info } else { LogLevel::Warn }, line);
        self.departed.send_replace(Some(cut));
    }

    async fn give_up(self, team: &Team, stage: SwapStage, setback: Setback) {
        match setback {
            Setback::Failed(reason) => self.give_up_for(team, stage, reason).await,
            Setback::Interrupted(Interruption::Superseded) => {
                let mut this = self;
                this.without_share();
                this.tell(SwapState::Superseded, None);
                // The next one need not wait until this is cleared away.
                this.settle(SwapOutcome::Superseded);
                this.clear_away(team).await;
            }
            Setback::Interrupted(why) => self.give_up_for(team, stage, why.reason().to_owned()).await,
        }
    }

    /// The version before serves on; the new one goes, and then it is said.
    async fn give_up_for(mut self, team: &Team, stage: SwapStage, reason: String) {
        self.without_share();
        self.row.plugin.log(LogLevel::Error, format!("the swap is rolled back: {reason}"));
        let cut = self.clear_away(team).await;
        self.story.cut = (cut > 0).then_some(cut);
        self.tell(SwapState::RolledBack, Some(reason.clone()));
        self.settle(SwapOutcome::RolledBack { stage, reason });
    }

    async fn clear_away(&mut self, team: &Team) -> u32 {
        team.ends_as(RunOutcome::RolledBack);
        team.dismiss(self.drain());
        team.gone().await;
        self.row.forget(team);
        self.departed.send_replace(Some(team.cut()));
        team.cut()
    }

    fn without_share(&self) {
        if self.order.share.is_some() {
            let plugin = &self.row.plugin;
            plugin.supervision.registry.set_share(&plugin.name, None);
        }
    }

    /// The new version is started in the place of the one before.
    async fn in_place(mut self, before: &PluginRecord) {
        let plugin = Arc::clone(&self.row.plugin);
        let registry = &plugin.supervision.registry;
        let old = Version { entry: Arc::clone(&before.entry), root: before.root.clone() };
        let new = self.version();
        let launches: Vec<InstanceId> = before.sessions().map(|session| session.id).collect();
        let begun = self.row.begin_in_place(self.story.number, &old, &new, &self.order.why);
        let (team, generation, was_up) = match begun {
            Ok(begun) => begun,
            Err(reason) => {
                self.tell(SwapState::RolledBack, Some(reason.clone()));
                self.departed.send_replace(Some(0));
                return self.settle(SwapOutcome::RolledBack { stage: SwapStage::Gate, reason });
            }
        };
        let cut_before = team.cut();
        let passed = self.unless_ended(self.pass_gate(&team, generation, &launches)).await;
        let Err(setback) = passed else {
            if let Some(registered) = self.version_of(team.id) {
                self.story.to = Some(registered);
            }
            let cut = team.cut() - cut_before;
            self.story.cut = Some(cut);
            self.tell(SwapState::Restarted, None);
            plugin.log(
                LogLevel::Info,
                "the swap is done: the new version runs in the place of the one before",
            );
            self.departed.send_replace(Some(cut));
            return self.settle(SwapOutcome::Restarted);
        };
        let is_back = registry.exchange(&plugin.name, &new.entry, Arc::clone(&old.entry), old.root.clone());
        if is_back && new.entry.instances != old.entry.instances {
            self.row.set_count(old.entry.instances as usize, Wanted::default());
        }
        let count = plugin.count(team.id);
        let (state, outcome) = match &setback {
            Setback::Interrupted(Interruption::Superseded) => {
                (SwapState::Superseded, SwapOutcome::Superseded)
            }
            Setback::Interrupted(why) => rolled_back(why.reason().to_owned()),
            Setback::Failed(reason) => rolled_back(reason.clone()),
        };
        match &setback {
            // Whoever stopped it has given the word already.
            Setback::Interrupted(Interruption::Stopped | Interruption::HostStops) => {}
            // And whoever started it again, with the new version in place.
            Setback::Interrupted(Interruption::Restarted) => self.row.start_anew(&team, count),
            _ if was_up => self.row.start_anew(&team, count),
            _ => {
                if before.is_held {
                    registry.hold(&plugin.name);
                }
                team.change(count, |wanted| Wanted { up: false, ..wanted });
            }
        }
        let reason = match &outcome {
            SwapOutcome::RolledBack { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        if let Some(reason) = &reason {
            let line = format!("the swap is rolled back, the version before is started again: {reason}");
            plugin.log(LogLevel::Error, line);
        }
        self.tell(state, reason);
        self.departed.send_replace(Some(team.cut() - cut_before));
        self.settle(outcome);
    }

    /// How long a version that goes may finish what it has: as its entry says, else as long as any request
    /// may take. Nobody waits for it, so nothing need be cut.
    fn drain(&self) -> Duration {
        let longest = self.row.plugin.supervision.config.http.request_timeout;
        self.order.entry.swap.drain.unwrap_or(longest)
    }

    fn version(&self) -> Version {
        Version { entry: Arc::clone(&self.order.entry), root: self.order.root.clone() }
    }

    /// What the first instance of a version registered as.
    fn version_of(&self, team: TeamId) -> Option<VersionStory> {
        let plugin = &self.row.plugin;
        let record = plugin.supervision.registry.plugin(plugin.name.as_str())?;
        let session = record.sessions_of(team).next()?;
        let registered = session.registration().register.version.clone();
        let entry = &self.order.entry;
        Some(VersionStory {
            version: registered.unwrap_or_else(|| entry.version.clone()),
            revision: entry.revision,
        })
    }

    /// Completes when somebody ends the swap.
    async fn interrupted(&self) -> Interruption {
        let mut interruption = self.interruption.clone();
        let stop = &self.row.plugin.stop;
        let host_stops = Interruption::HostStops;
        tokio::select! {
            biased;
            () = stop.cancelled() => host_stops,
            why = interruption.wait_for(Option::is_some) => why.ok().and_then(|why| *why).unwrap_or(host_stops),
        }
    }

    async fn unless_ended(&self, work: impl Future<Output = Result<(), String>>) -> Result<(), Setback> {
        tokio::select! {
            biased;
            why = self.interrupted() => Err(Setback::Interrupted(why)),
            done = work => done.map_err(Setback::Failed),
        }
    }

    fn tell(&mut self, state: SwapState, reason: Option<String>) {
        let plugin = &self.row.plugin;
        (self.story.state, self.story.since, self.story.reason) = (state, Timestamp::now(), reason);
        plugin.supervision.registry.set_swap(&plugin.name, self.story.clone());
    }

    /// Says how it ended; from here on the plugin has no swap that could be ended.
    fn settle(&mut self, outcome: SwapOutcome) {
        let plugin = &self.row.plugin;
        if let Some(record) = plugin.supervision.registry.plugin(plugin.name.as_str()) {
            let counts = &record.counts;
            let count = match &outcome {
                SwapOutcome::Swapped { .. } => &counts.swapped,
                SwapOutcome::RolledBack { .. } => &counts.rolled_back,
                SwapOutcome::Restarted => &counts.restarted,
                SwapOutcome::Superseded => &counts.superseded,
            };
            count.one();
        }
        let mut teams = self.row.lock_teams();
        if teams.swap.as_ref().is_some_and(|swap| swap.number == self.story.number) {
            teams.swap = None;
        }
        drop(teams);
        self.outcome.send_replace(Some(outcome));
    }
}

fn rolled_back(reason: String) -> (SwapState, SwapOutcome) {
    (SwapState::RolledBack, SwapOutcome::RolledBack { stage: SwapStage::Gate, reason })
}
