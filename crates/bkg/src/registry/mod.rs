//! The table of what is alive: every known plugin, its status, and its registered instances.
//!
//! Not who decides: the supervisor writes statuses, the bus writes instances, the dispatcher and the
//! HTTP surface read. Readers take one immutable [`View`] and never wait; a change builds the next
//! view and swaps it in whole, so nobody sees half of one.

mod confinement;
mod counts;
mod demand;
mod instance;
mod launch;
mod mailbox;
mod offer;
pub mod process_table;
mod reach;
mod route_faults;
mod route_template;
mod routes;
mod status;
mod swap_story;
mod team;
mod topics;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bkg_protocol::message::Condition;
use bkg_protocol::{CapabilityName, InstanceId, PluginName};
use process_table::LaunchProcess;
use tokio::sync::watch;

pub use confinement::{Confinement, Grouping, LimitMeans, Means};
pub use counts::PluginCounts;
pub(crate) use instance::NewInstance;
pub use instance::{Capacity, Instance, OwnFigures, Registration, Slot, Terms};
pub use launch::{Launch, LaunchEvent, PrivateListener};
pub use mailbox::{Ask, Failure, Lineage, Mailbox, Order, Part, Purpose, Reply};
pub use reach::Reach;
pub use route_faults::RouteFaults;
pub use route_template::{
    DeclaredRoute, HOST_SEGMENTS, Pair, RouteError, RouteFault, Template, read_routes,
};
pub use routes::{Found, LiveRoute, Lookup, RouteTable, names_what_is_the_hosts};
pub use status::{State, Status};
pub use swap_story::{ShareStory, SwapState, SwapStory, VersionStory};
pub use team::{Figures, Side, TeamId, TrafficShare};
pub use topics::{MOST_TOPICS, TooManyTopics, TopicCounts, TopicFigures, Topics};
pub use view::{ModelOwner, PluginRecord, View};

use crate::config::PluginEntry;

/// The table of plugins and instances; cheap to share.
#[derive(Debug)]
pub struct Registry {
    view: ArcSwap<View>,
    /// Held while a new view is built, so that changes do not lose one another.
    building: Mutex<()>,
    changed: watch::Sender<u64>,
    /// The launches that have processes, whether or not they have registered. Beside the view: nobody
    /// waits for these.
    launches: Mutex<Vec<SpawnedLaunch>>,
    /// How plugins are started on demand.
    starter: demand::Starter,
}

/// A launch whose first process was started and of which something may be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnedLaunch {
    /// Whose it is.
    pub plugin: PluginName,
    /// Its first process.
    pub process: LaunchProcess,
}

/// Another version of a plugin that is to serve from now on.
#[derive(Debug)]
pub struct Takeover<'a> {
    /// The version.
    pub team: TeamId,
    /// Its entry.
    pub entry: Arc<PluginEntry>,
    /// The real path of its folder.
    pub root: PathBuf,
    /// The entry that the plugin must still have: who changed it meanwhile must not lose that.
    pub replaces: &'a PluginEntry,
    /// How many of its instances must be in rotation.
    pub ready: usize,
    /// What the supervisor sees of it.
    pub status: Status,
}

/// Why a version was not put into rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHandedOver {
    /// Somebody changed the plugin's entry.
    #[error("its entry was changed while the new version started: swap it again")]
    EntryChanged,
    /// Instances that were ready are no longer.
    #[error("only {ready} of its instances are ready")]
    TooFew {
        /// How many are.
        ready: usize,
    },
}

impl Registry {
    /// A table of the known plugins in catalogue order, all stopped.
    ///
    /// Each comes with the real path of its folder. `order` says which plugins come first for a capability, before catalogue order.
    pub fn new(
        plugins: impl IntoIterator<Item = (Arc<PluginEntry>, PathBuf)>,
        order: BTreeMap<CapabilityName, Vec<PluginName>>,
    ) -> Self {
        let records = plugins
            .into_iter()
            .map(|(entry, root)| (entry.name.clone(), Arc::new(PluginRecord::new(entry, root))));
        Self {
            view: ArcSwap::from_pointee(View::new(records.collect(), order)),
            building: Mutex::new(()),
            changed: watch::Sender::new(0),
            launches: Mutex::default(),
            starter: demand::Starter::default(),
        }
    }

    /// What is alive at this moment; the view never changes after it was taken.
    pub fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// The record of a plugin.
    pub fn plugin(&self, name: &str) -> Option<Arc<PluginRecord>> {
        self.view().plugin(name).cloned()
    }

    /// Waits until `condition` holds for the view, and answers what it made of it.
    ///
    /// Never returns if it never holds: callers bring their own deadline.
    pub async fn until<T>(&self, mut condition: impl FnMut(&View) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = condition(&self.view()) {
                return found;
            }
            changes.changed().await.expect("the sender lives in self");
        }
    }

    /// A receiver that is woken at every change of the table.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sets what the supervisor sees of a plugin.
    pub fn set_status(&self, plugin: &PluginName, status: Status) {
        self.change(plugin, |record| record.status = status);
    }

    /// Enters a registered instance; an older session of the same launch leaves the table, and comes
    /// out to be closed. One that takes settings while it runs has the newest from here on: whoever puts
    /// an entry in place afterwards finds it in the table, and nobody's settings fall between the two.
    pub fn enter(&self, instance: Arc<Instance>) -> Option<Arc<Instance>> {
        let plugin = instance.plugin.clone();
        let mut replaced = None;
        self.change(&plugin, |record| {
            let serves = instance.team == record.team;
            let place = if serves { &mut record.instances } else { &mut record.standby };
            let older = place.iter().position(|other| other.id == instance.id);
            replaced = older.map(|older| place.remove(older));
            let registration = Arc::clone(&instance.registration());
            // A version that is to take over has settings of its own.
            if serves && instance.takes_hot_config() {
                instance.took_settings(&record.entry);
            }
            place.push(instance);
            if serves {
                record.registers(registration);
            }
        });
        replaced
    }

    /// Takes an instance out, unless a newer session of its launch has taken its place.
    pub fn leave(&self, instance: &Arc<Instance>) {
        self.change(&instance.plugin, |record| {
            record.instances.retain(|other| !Arc::ptr_eq(other, instance));
            record.standby.retain(|other| !Arc::ptr_eq(other, instance));
        });
    }

    /// Takes every session of a launch out of rotation, as the first step of stopping it.
    pub fn retire(&self, plugin: &PluginName, launch: InstanceId) -> Vec<Arc<Instance>> {
        let mut retired = Vec::new();
        self.change(plugin, |record| {
            for place in [&mut record.instances, &mut record.standby] {
                retired.extend(place.extract_if(.., |instance| instance.id == launch));
            }
        });
        retired
    }

    /// Replaces what an instance registered.
    pub fn update(&self, instance: &Arc<Instance>, registration: Registration) {
        let registration = Arc::new(registration);
        self.change(&instance.plugin, |record| {
            if instance.team == record.team {
                record.registers(Arc::clone(&registration));
            }
            instance.replace_registration(registration);
        });
    }

    /// Puts an entry in the place of a plugin's present one: what starts from now on starts with it.
    pub fn set_entry(&self, entry: Arc<PluginEntry>) {
        let plugin = entry.name.clone();
        self.change(&plugin, |record| record.set_entry(entry));
    }

    /// Puts another version of a plugin into rotation, and takes the present one out: one change, whole
    /// or not at all. From it on the plugin has the entry and the folder of `takeover`, and offers what
    /// the instances of that version registered.
    ///
    /// # Errors
    /// Nothing has changed: too few instances are ready, or the entry is not the one that was expected.
    pub fn hand_over(&self, plugin: &PluginName, takeover: Takeover<'_>) -> Result<(), NotHandedOver> {
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.view.load();
        let record = current.plugin(plugin.as_str()).ok_or(NotHandedOver::EntryChanged)?;
        if *record.entry != *takeover.replaces {
            return Err(NotHandedOver::EntryChanged);
        }
        let ready = record.sessions_of(takeover.team).filter(|session| session.is_in_rotation()).count();
        if ready < takeover.ready {
            return Err(NotHandedOver::TooFew { ready });
        }
        let next = current.with(plugin, |record| {
            (record.entry, record.root) = (takeover.entry, takeover.root);
            record.team = takeover.team;
            record.status = takeover.status;
            record.share = None;
            let mut sessions = std::mem::take(&mut record.instances);
            sessions.append(&mut record.standby);
            (record.instances, record.standby) =
                sessions.into_iter().partition(|session| session.team == takeover.team);
            let newest = record.instances.last().map(|session| Arc::clone(&session.registration()));
            if let Some(registration) = newest {
                record.registers(registration);
            }
        });
        if let Some(next) = next {
            self.view.store(Arc::new(next));
        }
        drop(building);
        self.tell(plugin);
        Ok(())
    }

    /// Puts an entry and the real path of its folder in the place of `replaces`, if that is still the
    /// plugin's entry; answers whether it was.
    pub fn exchange(
        &self,
        plugin: &PluginName,
        replaces: &PluginEntry,
        entry: Arc<PluginEntry>,
        root: PathBuf,
    ) -> bool {
        let mut is_exchanged = false;
        self.change(plugin, |record| {
            is_exchanged = *record.entry == *replaces;
            if is_exchanged {
                (record.entry, record.root) = (entry, root);
            }
        });
        is_exchanged
    }

    /// Shares the requests of a plugin out between two versions, or no longer.
    pub fn set_share(&self, plugin: &PluginName, share: Option<Arc<TrafficShare>>) {
        self.change(plugin, |record| record.share = share);
    }

    /// Tells how far a swap is, unless a later one is told of already.
    pub fn set_swap(&self, plugin: &PluginName, story: SwapStory) {
        self.change(plugin, |record| {
            if record.swap.as_ref().is_none_or(|known| known.number <= story.number) {
                record.swap = Some(Arc::new(story));
            }
        });
    }

    /// Enters a plugin behind all others; where its name is known, the entry and the real path of the
    /// folder take the place of those of before.
    pub fn put(&self, entry: Arc<PluginEntry>, root: PathBuf) {
        let name = entry.name.clone();
        if self.plugin(name.as_str()).is_some() {
            return self.change(&name, |record| {
                record.set_entry(entry);
                record.root = root;
            });
        }
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.view.load().with_new(PluginRecord::new(entry, root));
        self.view.store(Arc::new(next));
        drop(building);
        self.tell(&name);
    }

    /// Notes that an instance runs with the settings of `entry` from now on.
    pub fn took_settings(&self, instance: &Instance, entry: &PluginEntry) {
        instance.took_settings(entry);
        self.tell(&instance.plugin);
    }

    /// Notes that a launch has processes from now on.
    pub fn spawned(&self, plugin: &PluginName, process: LaunchProcess) {
        self.lock_launches().push(SpawnedLaunch { plugin: plugin.clone(), process });
    }

    /// Notes that nothing is left of a launch.
    pub fn cleared(&self, launch: InstanceId) {
        self.lock_launches().retain(|other| other.process.instance != launch);
    }

    /// The launches that have processes, also those that prepare or have not registered; the oldest first.
    pub fn launches(&self) -> Vec<SpawnedLaunch> {
        self.lock_launches().clone()
    }

    fn lock_launches(&self) -> MutexGuard<'_, Vec<SpawnedLaunch>> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how an instance feels, and tells those who wait for it if that is news.
    pub fn set_condition(&self, instance: &Instance, condition: Condition) {
        if instance.set_condition(condition) {
            self.tell(&instance.plugin);
        }
    }

    /// Notes that the health probe of an instance found it ill: it is out of rotation.
    pub fn set_ill(&self, instance: &Instance) {
        self.set_probed(instance, true);
    }

    /// Notes that the health probe of an instance found it well again.
    pub fn set_well(&self, instance: &Instance) {
        self.set_probed(instance, false);
    }

    fn set_probed(&self, instance: &Instance, is_ill: bool) {
        if instance.set_ill(is_ill) {
            self.tell(&instance.plugin);
        }
    }

    /// Tells those who wait on the table, and those who wait for a place at the plugin.
    fn tell(&self, plugin: &PluginName) {
        if let Some(record) = self.plugin(plugin.as_str()) {
            record.capacity.ring();
        }
        self.changed.send_modify(|version| *version += 1);
    }

    fn change(&self, plugin: &PluginName, edit: impl FnOnce(&mut PluginRecord)) {
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.view.load();
        if let Some(next) = current.with(plugin, edit) {
            self.view.store(Arc::new(next));
        }
        drop(building);
        self.tell(plugin);
    }
}
