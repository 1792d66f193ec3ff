//! Which upstreams there are, and which of them answers for which model name.
//!
//! Made anew whenever settings or discovered models change, and asked for each request. The invariant: what it
//! says is of the settings that are in force at that moment, and a name means one model of one upstream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bkg_sdk::{ErrorCode, Model, PluginName, Settings, WireError};
use indexmap::IndexMap;
use tokio::sync::Notify;

use crate::settings::{ProvidersSettings, UpstreamSettings};
use crate::upstream::Upstream;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Chat,
    Embed,
}

/// A model that an upstream says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: String,
    /// Whether it embeds, where the upstream says so.
    pub(crate) embeds: Option<bool>,
    /// Its longest input in tokens, where the upstream says so.
    pub(crate) context_length: Option<u64>,
}

/// Who answers for a name.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    pub(crate) upstream: Arc<Upstream>,
    /// The model as the upstream calls it.
    pub(crate) id: String,
    context_length: Option<u64>,
}

/// Names, each with who answers.
type Offer = IndexMap<(Kind, String), Offered>;

/// All upstreams.
#[derive(Debug)]
pub(crate) struct Roster {
    settings: Settings<ProvidersSettings>,
    state: Mutex<State>,
    /// Told when models or troubles may have changed.
    pub(crate) changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    changed: Arc<Notify>,
    /// What the rest was made of.
    of: Option<Arc<ProvidersSettings>>,
    upstreams: Vec<Arc<Upstream>>,
    found: HashMap<String, Vec<Found>>,
    offer: Arc<Offer>,
}

impl Roster {
    /// The roster of these settings, now and later.
    pub(crate) fn new(settings: Settings<ProvidersSettings>) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let state = State {
            changed: changed.clone(),
            of: None,
            upstreams: Vec::new(),
            found: HashMap::new(),
            offer: Arc::default(),
        };
        Arc::new(Self { settings, state: Mutex::new(state), changed })
    }

    /// Who answers for a model; its name may come with the plugin's own in front.
    ///
    /// # Errors
    /// `not_found`, where nobody does.
    pub(crate) fn find(&self, kind: Kind, model: &str, plugin: &PluginName) -> Result<Offered, WireError> {
        let offer = self.current().offer.clone();
        let find = |name: &str| offer.get(&(kind, name.to_owned())).cloned();
        // No other word may stand in front: what a key may use was judged by the name as it was asked for.
        let own = || model.strip_prefix(plugin.as_str())?.strip_prefix('/');
        find(model).or_else(|| find(own()?)).ok_or_else(|| {
            let message = format!("no upstream has the model `{model}` for this");
            WireError::new(ErrorCode::NotFound, message).param("model")
        })
    }

    /// The models as the host lists them.
    pub(crate) fn models(&self) -> Vec<Model> {
        let offer = self.current().offer.clone();
        let model = |((kind, name), offered): (&(Kind, String), &Offered)| Model {
            id: name.clone(),
            capability: kind.capability().parse().expect("the capabilities' names are literals"),
            owned_by: Some(offered.upstream.name().to_owned()),
            context_length: offered.context_length,
            dimensions: None,
        };
        offer.iter().map(model).collect()
    }

    /// The upstreams in their order.
    pub(crate) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.current().upstreams.clone()
    }

    /// Takes in what an upstream says it has, unless it is not among the upstreams any more.
    pub(crate) fn discovered(&self, upstream: &Arc<Upstream>, found: Vec<Found>) {
        let mut state = self.current();
        if !state.upstreams.iter().any(|one| Arc::ptr_eq(one, upstream)) {
            return;
        }
        if state.found.get(upstream.name()) != Some(&found) {
            tracing::info!(
                upstream = upstream.name(),
                models = found.len(),
                "the upstream's models changed"
            );
            state.found.insert(upstream.name().to_owned(), found);
            state.offer = Arc::new(offer(&state.upstreams, &state.found));
        }
    }

    /// The state, made of the settings that are in force.
    fn current(&self) -> MutexGuard<'_, State> {
        let settings = self.settings.get();
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if !state.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &settings)) {
            state.rebuild(&settings);
            state.of = Some(settings);
        }
        state
    }
}

impl State {
    fn rebuild(&mut self, settings: &ProvidersSettings) {
        let before = std::mem::take(&mut self.upstreams);
        for wanted in &settings.upstreams {
            let known = before.iter().find(|upstream| upstream.name() == wanted.name);
            if let Some(known) = known.filter(|known| known.settings == *wanted) {
                self.upstreams.push(known.clone());
                continue;
            }
            match Upstream::new(wanted.clone(), known.map(AsRef::as_ref), self.changed.clone()) {
                Ok(upstream) => self.upstreams.push(Arc::new(upstream)),
                Err(problem) => {
                    tracing::error!(upstream = wanted.name, problem, "the upstream is left out");
                }
            }
            if known.is_some_and(|known| known.settings.base_url() != wanted.base_url()) {
                self.found.remove(&wanted.name);
            }
        }
        self.found.retain(|name, _| settings.upstreams.iter().any(|wanted| wanted.name == *name));
        self.offer = Arc::new(offer(&self.upstreams, &self.found));
    }
}

impl Kind {
    /// The capability that models of this kind answer.
    pub(crate) fn capability(self) -> &'static str {
        match self {
            Self::Chat => "llm.chat",
            Self::Embed => "llm.embed",
        }
    }
}

/// A name belongs to the first upstream that has it; where others have it too, each has it as `upstream/name`.
fn offer(upstreams: &[Arc<Upstream>], found: &HashMap<String, Vec<Found>>) -> Offer {
    let mut by_name: IndexMap<(Kind, String), Vec<Offered>> = IndexMap::new();
    for upstream in upstreams {
        for ((kind, name), (id, context_length)) in names(&upstream.settings, found.get(upstream.name())) {
            let offered = Offered { upstream: upstream.clone(), id, context_length };
            by_name.entry((kind, name)).or_default().push(offered);
        }
    }
    let mut offer = Offer::new();
    for (name, those) in &by_name {
        offer.insert(name.clone(), those[0].clone());
    }
    for ((kind, name), those) in by_name.iter().filter(|(_, those)| those.len() > 1) {
        for offered in those {
            // Should somebody have a model of just this name, it stays theirs.
            let name = format!("{}/{name}", offered.upstream.name());
            offer.entry((*kind, name)).or_insert_with(|| offered.clone());
        }
    }
    offer
}

/// The names under which one upstream has models: ids, and aliases, which go before ids.
fn names(
    settings: &UpstreamSettings,
    found: Option<&Vec<Found>>,
) -> IndexMap<(Kind, String), (String, Option<u64>)> {
    let listed: Vec<Found> = match settings.models.listed() {
        Some(models) => {
            models.iter().map(|id| Found { id: id.clone(), embeds: None, context_length: None }).collect()
        }
        None => found.cloned().unwrap_or_default(),
    };
    let known = |id: &str| listed.iter().find(|found| found.id == id);
    let kind = |id: &str| {
        let says = known(id).and_then(|found| found.embeds).filter(|_| settings.embedding_models.is_none());
        if says.unwrap_or_else(|| settings.embeds(id)) { Kind::Embed } else { Kind::Chat }
    };
    let ids = listed.iter().map(|found| (found.id.clone(), found.id.clone()));
    let aliases = settings.aliases.iter().map(|(alias, id)| (alias.clone(), id.clone()));
    let facts = |id: String| {
        let context_length = known(&id).and_then(|found| found.context_length);
        (id, context_length)
    };
    let names: IndexMap<String, String> = ids.chain(aliases).collect();
    names.into_iter().map(|(name, id)| ((kind(&id), name), facts(id))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn roster(upstreams: Value) -> Arc<Roster> {
        let settings: ProvidersSettings =
            serde_json::from_value(json!({ "upstreams": upstreams })).unwrap();
        settings.check().unwrap();
        Roster::new(Settings::new(settings))
    }

    fn upstream(name: &str, models: Value, more: Value) -> Value {
        let mut settings = json!({ "name": name, "baseUrl": "http://127.0.0.1:1", "models": models });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    }

    fn names(roster: &Roster) -> Vec<String> {
        let models = roster.models().into_iter();
        models
            .map(|model| format!("{} {} {}", model.capability, model.id, model.owned_by.unwrap()))
            .collect()
    }

    fn found(id: &str) -> Found {
        Found { id: id.to_owned(), embeds: None, context_length: None }
    }

    #[tokio::test]
    async fn a_name_belongs_to_the_first_and_those_who_share_it_have_it_with_their_own_in_front() {
        let roster = roster(json!([
            upstream("a", json!(["m", "only/a"]), json!({})),
            upstream("b", json!(["m", "e5-embed"]), json!({ "aliases": { "short": "m" } })),
        ]));
        assert_eq!(
            names(&roster),
            [
                "llm.chat m a",
                "llm.chat only/a a",
                "llm.embed e5-embed b",
                "llm.chat short b",
                "llm.chat a/m a",
                "llm.chat b/m b",
            ]
        );
        let plugin = "providers".parse().unwrap();
        for (model, who, id) in
            [("m", "a", "m"), ("b/m", "b", "m"), ("short", "b", "m"), ("providers/short", "b", "m")]
        {
            let offered = roster.find(Kind::Chat, model, &plugin).unwrap();
            assert_eq!((offered.upstream.name(), offered.id.as_str()), (who, id), "{model}");
        }
        for (kind, model) in [(Kind::Embed, "m"), (Kind::Chat, "other/short"), (Kind::Chat, "")] {
            let error = roster.find(kind, model, &plugin).unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.param.as_deref()),
                ("not_found", Some("model")),
                "{model}"
            );
        }
    }

    #[tokio::test]
    async fn which_models_embed_is_the_operators_word_then_the_upstreams_then_the_names() {
        let more = json!({ "embeddingModels": ["bge*"] });
        let roster = roster(json!([
            upstream("said", json!(["bge-m3", "my-embed"]), more),
            upstream("found", json!("discover"), json!({})),
        ]));
        let bert = Found { embeds: Some(true), context_length: Some(512), ..found("minilm") };
        roster.discovered(&roster.upstreams()[1], vec![bert, found("nomic-Embed")]);
        assert_eq!(
            names(&roster),
            [
                "llm.embed bge-m3 said",
                "llm.chat my-embed said",
                "llm.embed minilm found",
                "llm.embed nomic-Embed found",
            ]
        );
        assert_eq!(roster.models()[2].context_length, Some(512));
    }

    #[tokio::test]
    async fn a_change_of_one_upstream_leaves_the_others_and_what_they_count() {
        let read = |upstreams: Value| -> ProvidersSettings {
            serde_json::from_value(json!({ "upstreams": upstreams })).unwrap()
        };
        let (a, b) = (upstream("a", json!(["m"]), json!({})), upstream("b", json!("discover"), json!({})));
        let roster = roster(json!([a, b]));
        let before = roster.upstreams();
        roster.discovered(&before[1], vec![found("x")]);
        let changed = upstream("b", json!("discover"), json!({ "maxConcurrency": 3 }));
        let mut state = roster.current();
        state.rebuild(&read(json!([a, changed])));
        assert!(Arc::ptr_eq(&before[0], &state.upstreams[0]));
        assert!(!Arc::ptr_eq(&before[1], &state.upstreams[1]));
        assert!(Arc::ptr_eq(&before[1].gate, &state.upstreams[1].gate));
        assert_eq!(state.offer.len(), 2, "what was found is still there");
        drop(state);
        roster.discovered(&before[1], vec![]);
        assert_eq!(roster.current().offer.len(), 2, "the word of one who is gone does not count");
    }
}
