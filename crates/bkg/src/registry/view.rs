//! One moment of the table, immutable, with the indexes that a request needs.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use bkg_protocol::message::{Condition, Model, Register};
use bkg_protocol::{CapabilityName, PluginName};
use indexmap::IndexMap;
use serde_json::Value;

use super::demand::models_by_entry;
use super::{
    Capacity, DeclaredRoute, Instance, PluginCounts, Registration, RouteFaults, RouteTable, State, Status,
    SwapStory, TeamId, TrafficShare,
};
use crate::config::PluginEntry;

type ModelIndex = HashMap<CapabilityName, IndexMap<String, Vec<Arc<ModelOwner>>>>;

/// The table at one moment.
#[derive(Debug)]
pub struct View {
    plugins: IndexMap<PluginName, Arc<PluginRecord>>,
    order: BTreeMap<CapabilityName, Vec<PluginName>>,
    /// Plugins with a registered instance that answers the capability, in order of preference.
    answering: HashMap<CapabilityName, Vec<Arc<PluginRecord>>>,
    /// Who serves a model id for a capability, in order of preference: the bare ids, and the `plugin/id`
    /// forms of those that several plugins have.
    models: ModelIndex,
    /// Which request is which plugin's; shared with the view before, unless registrations changed.
    routes: Arc<RouteTable>,
}

/// One plugin at one moment.
#[derive(Debug, Clone)]
pub struct PluginRecord {
    /// Its entry.
    pub entry: Arc<PluginEntry>,
    /// The real path of its folder.
    pub root: PathBuf,
    /// What the supervisor sees.
    pub status: Status,
    /// The registered instances of the version that serves, oldest first.
    pub instances: Vec<Arc<Instance>>,
    /// The registered instances of versions that do not serve: one that is to take over, or has handed
    /// over. What they offer is not seen.
    pub standby: Vec<Arc<Instance>>,
    /// The version that serves.
    pub team: TeamId,
    /// How requests are shared with a version on trial.
    pub share: Option<Arc<TrafficShare>>,
    /// The swap that is under way, else the last one.
    pub swap: Option<Arc<SwapStory>>,
    /// Whether somebody stopped it, so that requests do not start it.
    pub is_held: bool,
    /// The models of its last registration, or of its entry. They outlive it, so that a model whose plugin is
    /// restarting is unavailable rather than unknown.
    pub offered: Vec<Model>,
    /// The schema of its settings that it registered last. It outlives the registration, so that
    /// settings can be checked, and secrets told, while the plugin rests.
    pub schema: Option<Arc<Value>>,
    /// What it registered last, for as long as the host runs.
    pub registered: Option<Arc<Registration>>,
    /// What its answers to HTTP requests asked for in vain.
    pub route_faults: Arc<RouteFaults>,
    /// Those who wait for a free place.
    pub capacity: Arc<Capacity>,
    /// What is counted of it.
    pub counts: Arc<PluginCounts>,
}

/// Who serves a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelOwner {
    /// The plugin.
    pub plugin: PluginName,
    /// The model as the plugin registered it.
    pub model: Model,
}

impl PluginRecord {
    pub(super) fn new(entry: Arc<PluginEntry>, root: PathBuf) -> Self {
        Self {
            offered: models_by_entry(&entry),
            entry,
            root,
            is_held: false,
            status: Status::now(State::Stopped, None),
            instances: Vec::new(),
            standby: Vec::new(),
            team: TeamId::default(),
            share: None,
            swap: None,
            schema: None,
            registered: None,
            route_faults: Arc::default(),
            capacity: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// Puts another entry in the place of the present one.
    pub(super) fn set_entry(&mut self, entry: Arc<PluginEntry>) {
        if self.registered.is_none() {
            self.offered = models_by_entry(&entry);
        }
        self.entry = entry;
    }

    /// The HTTP routes of its last registration; they outlive it as `offered` does. `None` if it has not
    /// registered since the host started.
    pub fn declared(&self) -> Option<&Arc<[DeclaredRoute]>> {
        self.registered.as_ref().map(|registration| &registration.routes)
    }

    /// The state with what the instances say of themselves: a running plugin all of whose instances
    /// are out of rotation is not running.
    pub fn state(&self) -> State {
        if self.status.state != State::Running {
            return self.status.state;
        }
        let is = |condition| move |instance: &Arc<Instance>| instance.condition() == condition;
        let instances = &self.instances;
        if instances.is_empty() {
            State::Starting
        } else if instances.iter().all(is(Condition::Healthy)) {
            State::Running
        } else if instances.iter().any(|instance| instance.is_in_rotation()) {
            State::Degraded
        } else if instances.iter().any(is(Condition::Down)) {
            State::Unresponsive
        } else {
            State::Draining
        }
    }

    pub(super) fn remember_schema(&mut self, register: &Register) {
        if let Some(schema) = register.config_schema.as_ref().and_then(|schema| schema.read().ok()) {
            self.schema = Some(Arc::new(schema));
        }
    }

    /// The schema of its settings: what it registered, else what its entry says.
    pub fn config_schema(&self) -> Option<&Value> {
        self.schema.as_deref().or(self.entry.config_schema.as_ref())
    }

    /// Whether an instance runs with something else than a process that started now would.
    pub fn restart_needed(&self) -> bool {
        self.instances.iter().any(|instance| {
            let runs_with = instance.entry();
            runs_with.settings != self.entry.settings || runs_with.must_restart_for(&self.entry)
        })
    }

    /// Where the plugin says that it listens itself.
    pub fn own_port(&self) -> Option<u16> {
        self.instances.iter().find_map(|instance| instance.registration().register.port.number())
    }

    /// The sessions of all versions, also those that do not serve.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.iter().chain(&self.standby)
    }

    /// The sessions of one version.
    pub fn sessions_of(&self, team: TeamId) -> impl Iterator<Item = &Arc<Instance>> {
        self.sessions().filter(move |session| session.team == team)
    }

    /// Takes what an instance registered for what the plugin offers.
    pub(super) fn registers(&mut self, registration: Arc<Registration>) {
        self.offered = registration.models.clone();
        self.remember_schema(&registration.register);
        self.registered = Some(registration);
    }

    /// Whether some instance is in rotation and answers the capability.
    pub fn answers(&self, capability: &str) -> bool {
        self.instances.iter().any(|instance| {
            instance.is_in_rotation() && instance.registration().terms(capability).is_some()
        })
    }
}

impl View {
    pub(super) fn new(
        plugins: IndexMap<PluginName, Arc<PluginRecord>>,
        order: BTreeMap<CapabilityName, Vec<PluginName>>,
    ) -> Self {
        let routes = Arc::new(RouteTable::new(plugins.values()));
        Self::indexed(plugins, order, routes)
    }

    fn indexed(
        plugins: IndexMap<PluginName, Arc<PluginRecord>>,
        order: BTreeMap<CapabilityName, Vec<PluginName>>,
        routes: Arc<RouteTable>,
    ) -> Self {
        let answering = index_capabilities(&plugins, &order);
        let models = index_models(&plugins, &order);
        Self { plugins, order, answering, models, routes }
    }

    /// The view after `edit` of one plugin's record; `None` if the plugin is not known.
    pub(super) fn with(&self, plugin: &PluginName, edit: impl FnOnce(&mut PluginRecord)) -> Option<Self> {
        let mut plugins = self.plugins.clone();
        let record = plugins.get_mut(plugin)?;
        let before = Arc::clone(record);
        edit(Arc::make_mut(record));
        let same = |one: &Arc<[DeclaredRoute]>, other: &Arc<[DeclaredRoute]>| {
            Arc::ptr_eq(one, other) || one == other
        };
        let keeps_routes = before.entry.route_prefix == record.entry.route_prefix
            && match (before.declared(), record.declared()) {
                (None, None) => true,
                (Some(one), Some(other)) => same(one, other),
                _ => false,
            };
        // A view is made for each change of a status; the table of routes seldom changes with it.
        let routes = match keeps_routes {
            true => Arc::clone(&self.routes),
            false => Arc::new(RouteTable::new(plugins.values())),
        };
        Some(Self::indexed(plugins, self.order.clone(), routes))
    }

    /// The view with one more plugin.
    pub(super) fn with_new(&self, record: PluginRecord) -> Self {
        let mut plugins = self.plugins.clone();
        plugins.insert(record.entry.name.clone(), Arc::new(record));
        let routes = Arc::new(RouteTable::new(plugins.values()));
        Self::indexed(plugins, self.order.clone(), routes)
    }

    /// The record of a plugin.
    pub fn plugin(&self, name: &str) -> Option<&Arc<PluginRecord>> {
        self.plugins.get(name)
    }

    /// All plugins in catalogue order.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<PluginRecord>> {
        self.plugins.values()
    }

    /// The plugins with a registered instance that answers a capability, in order of preference.
    pub fn answering(&self, capability: &str) -> &[Arc<PluginRecord>] {
        self.answering.get(capability).map_or(&[], Vec::as_slice)
    }

    /// The plugins that would be started for a capability, or are being started, in order of preference.
    pub fn coming_for(&self, capability: &str) -> impl Iterator<Item = &Arc<PluginRecord>> {
        preferred(&self.plugins, &self.order, capability).filter(move |record| record.comes_for(capability))
    }

    /// The HTTP routes of all plugins.
    pub fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }

    /// Who serves a model for a capability, in order of preference. A model may be named as `plugin/id`
    /// also where its id alone would do.
    pub fn owners(&self, capability: &str, id: &str) -> &[Arc<ModelOwner>] {
        let Some(models) = self.models.get(capability) else { return &[] };
        if let Some(owners) = models.get(id) {
            return owners;
        }
        let of_plugin = || {
            let (plugin, id) = id.split_once('/')?;
            let owners = models.get(id)?;
            let place = owners.iter().position(|owner| owner.plugin.as_str() == plugin)?;
            Some(&owners[place..=place])
        };
        of_plugin().unwrap_or_default()
    }

    /// All models by the id that clients name, each once, with those who serve it in order of preference.
    pub fn models(&self) -> impl Iterator<Item = (&str, &[Arc<ModelOwner>])> {
        let mut seen = std::collections::HashSet::new();
        self.plugins
            .values()
            .flat_map(|record| &record.offered)
            .filter_map(|model| self.models.get(&model.capability))
            .flatten()
            .map(|(id, owners)| (id.as_str(), owners.as_slice()))
            .filter(move |(id, _)| seen.insert(*id))
    }
}

/// Plugins in order of preference for a capability.
fn preferred<'a>(
    plugins: &'a IndexMap<PluginName, Arc<PluginRecord>>,
    order: &'a BTreeMap<CapabilityName, Vec<PluginName>>,
    capability: &str,
) -> impl Iterator<Item = &'a Arc<PluginRecord>> {
    let first: &[PluginName] = order.get(capability).map_or(&[], Vec::as_slice);
    let named = first.iter().filter_map(|name| plugins.get(name));
    let rest = plugins.iter().filter(|(name, _)| !first.contains(name)).map(|(_, record)| record);
    named.chain(rest)
}

fn index_capabilities(
    plugins: &IndexMap<PluginName, Arc<PluginRecord>>,
    order: &BTreeMap<CapabilityName, Vec<PluginName>>,
) -> HashMap<CapabilityName, Vec<Arc<PluginRecord>>> {
    let mut index: HashMap<CapabilityName, Vec<Arc<PluginRecord>>> = HashMap::new();
    for record in plugins.values() {
        for instance in &record.instances {
            for capability in instance.registration().capabilities() {
                let answering = index.entry(capability.clone()).or_default();
                if !answering.iter().any(|other| Arc::ptr_eq(other, record)) {
                    answering.push(Arc::clone(record));
                }
            }
        }
    }
    for (capability, first) in order {
        if let Some(answering) = index.get_mut(capability) {
            let place = |record: &Arc<PluginRecord>| {
                first.iter().position(|name| *name == record.entry.name).unwrap_or(usize::MAX)
            };
            answering.sort_by_key(place);
        }
    }
    index
}

fn index_models(
    plugins: &IndexMap<PluginName, Arc<PluginRecord>>,
    order: &BTreeMap<CapabilityName, Vec<PluginName>>,
) -> ModelIndex {
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    for model in plugins.values().flat_map(|record| &record.offered) {
        *counts.entry((model.capability.as_str(), &model.id)).or_default() += 1;
    }
    let capabilities: std::collections::BTreeSet<CapabilityName> =
        plugins.values().flat_map(|record| &record.offered).map(|model| model.capability.clone()).collect();
    let mut index = ModelIndex::new();
    for capability in capabilities {
        let owners = index.entry(capability.clone()).or_default();
        for record in preferred(plugins, order, capability.as_str()) {
            for model in record.offered.iter().filter(|model| model.capability == capability) {
                let owner =
                    Arc::new(ModelOwner { plugin: record.entry.name.clone(), model: model.clone() });
                if counts[&(capability.as_str(), model.id.as_str())] > 1 {
                    let named = owners.entry(format!("{}/{}", record.entry.name, model.id));
                    named.or_default().push(Arc::clone(&owner));
                }
                owners.entry(model.id.clone()).or_default().push(owner);
            }
        }
    }
    index
}
