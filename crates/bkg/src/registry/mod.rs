//! The table of what is alive: every known plugin, its status, and its registered instances.
//!
//! Not who decides: the supervisor writes statuses, the bus writes instances, the dispatcher and the
//! HTTP surface read. Readers take one immutable [`View`] and never wait; a change builds the next
//! view and swaps it in whole, so nobody sees half of one.

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

pub(crate) use instance::NewInstance;
pub use instance::{Capacity, Instance, OwnFigures, Registration, Slot, Terms};
pub use launch::{Launch, LaunchEvent, PrivateListener};
pub use mailbox::{Ask, Failure, Lineage, Mailbox, Order, Part, Reply};
pub use reach::Reach;
pub use route_faults::RouteFaults;
pub use route_template::{
    DeclaredRoute, HOST_SEGMENTS, Pair, RouteError, RouteFault, Template, read_routes,
};
pub use routes::{Found, LiveRoute, Lookup, RouteTable, names_what_is_the_hosts};
pub use status::{State, Status};
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
}

/// A launch whose first process was started and of which something may be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnedLaunch {
    /// Whose it is.
    pub plugin: PluginName,
    /// Its first process.
    pub process: LaunchProcess,
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
    /// out to be closed.
    pub fn enter(&self, instance: Arc<Instance>) -> Option<Arc<Instance>> {
        let plugin = instance.plugin.clone();
        let mut replaced = None;
        self.change(&plugin, |record| {
            let older = record.instances.iter().position(|other| other.id == instance.id);
            replaced = older.map(|place| record.instances.remove(place));
            record.offered = instance.registration().models.clone();
            record.remember_schema(&instance.registration().register);
            record.registered = Some(Arc::clone(&instance.registration()));
            record.instances.push(instance);
        });
        replaced
    }

    /// Takes an instance out, unless a newer session of its launch has taken its place.
    pub fn leave(&self, instance: &Arc<Instance>) {
        self.change(&instance.plugin, |record| {
            record.instances.retain(|other| !Arc::ptr_eq(other, instance));
        });
    }

    /// Takes every session of a launch out of rotation, as the first step of stopping it.
    pub fn retire(&self, plugin: &PluginName, launch: InstanceId) -> Vec<Arc<Instance>> {
        let mut retired = Vec::new();
        self.change(plugin, |record| {
            record.instances.retain(|instance| {
                let stays = instance.id != launch;
                if !stays {
                    retired.push(Arc::clone(instance));
                }
                stays
            });
        });
        retired
    }

    /// Replaces what an instance registered.
    pub fn update(&self, instance: &Arc<Instance>, registration: Registration) {
        let registration = Arc::new(registration);
        self.change(&instance.plugin, |record| {
            record.offered = registration.models.clone();
            record.remember_schema(&registration.register);
            record.registered = Some(Arc::clone(&registration));
            instance.replace_registration(registration);
        });
    }

    /// Puts an entry in the place of a plugin's present one: what starts from now on starts with it.
    pub fn set_entry(&self, entry: Arc<PluginEntry>) {
        let plugin = entry.name.clone();
        self.change(&plugin, |record| record.entry = entry);
    }

    /// Enters a plugin behind all others; where its name is known, the entry and the real path of the
    /// folder take the place of those of before.
    pub fn put(&self, entry: Arc<PluginEntry>, root: PathBuf) {
        let name = entry.name.clone();
        if self.plugin(name.as_str()).is_some() {
            return self.change(&name, |record| (record.entry, record.root) = (entry, root));
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
