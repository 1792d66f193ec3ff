//! What is decided, as tables and as properties of every decision.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bkg_protocol::message::Model;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// How things are in a test: plugins `a`, `b` … and what is wrong with some of their models.
#[derive(Debug, Clone, Default)]
struct World {
    /// Who serves which model, in order of preference.
    models: BTreeMap<String, Vec<char>>,
    /// What is not fit or not reachable, as `plugin/model`.
    faults: BTreeMap<String, Fault>,
    turn: Cell<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Away,
    Resting(u64),
    Probed,
    Due,
    Forbidden,
}

impl World {
    /// Each model with the plugins that serve it, such as `("m", "ab")`.
    fn new(models: &[(&str, &str)]) -> Self {
        let models = models.iter().map(|(model, plugins)| ((*model).to_owned(), plugins.chars().collect()));
        Self { models: models.collect(), ..Self::default() }
    }

    fn but(mut self, faults: &[(&str, Fault)]) -> Self {
        self.faults = faults.iter().map(|(name, fault)| ((*name).to_owned(), *fault)).collect();
        self
    }

    fn fault(&self, owner: &ModelOwner) -> Option<Fault> {
        self.faults.get(&named(owner)).copied()
    }
}

fn named(owner: &ModelOwner) -> String {
    format!("{}/{}", owner.plugin, owner.model.id)
}

fn owner(plugin: char, model: &str) -> Arc<ModelOwner> {
    let model = Model {
        id: model.to_owned(),
        capability: chat(),
        owned_by: None,
        context_length: None,
        dimensions: None,
    };
    Arc::new(ModelOwner { plugin: plugin.to_string().parse().unwrap(), model })
}

impl Circumstances for World {
    fn owners(&self, model: &str) -> Vec<Arc<ModelOwner>> {
        let plugins = self.models.get(model).into_iter().flatten();
        plugins.map(|plugin| owner(*plugin, model)).collect()
    }

    fn takes(&self, owner: &ModelOwner) -> Result<(), String> {
        if self.fault(owner) == Some(Fault::Away) { Err("away".to_owned()) } else { Ok(()) }
    }

    fn standing(&self, owner: &ModelOwner) -> Standing {
        match self.fault(owner) {
            Some(Fault::Resting(seconds)) => Standing::Resting(Duration::from_secs(seconds)),
            Some(Fault::Probed) => Standing::Probed,
            Some(Fault::Due) => Standing::Due,
            _ => Standing::Fit,
        }
    }

    fn permits(&self, owner: &ModelOwner) -> bool {
        self.fault(owner) != Some(Fault::Forbidden)
    }

    fn turn(&self, _: &ModelName) -> f64 {
        self.turn.get()
    }
}

fn chat() -> CapabilityName {
    "llm.chat".parse().unwrap()
}

fn read(routes: &Value) -> RoutingDocument {
    RoutingDocument::read(&json!({ "routes": routes })).unwrap()
}

/// What is tried, in order, as `plugin/model`.
fn tried(decision: &Decision) -> Vec<String> {
    decision.order().map(|index| named(decision.candidates[index].owner.as_ref().unwrap())).collect()
}

fn order(routes: &Value, world: &World, model: &str) -> String {
    tried(&decide(&read(routes), &chat(), model, world)).join(" ")
}

#[test]
fn a_name_that_is_no_route_is_served_by_those_who_have_it_in_their_order() {
    let world = World::new(&[("m", "bac")]);
    let none = json!({});
    assert_eq!(order(&none, &world, "m"), "b/m a/m c/m");
    assert_eq!(order(&none, &world, "other"), "");
    let world = world.but(&[("b/m", Fault::Away), ("a/m", Fault::Resting(1))]);
    assert_eq!(order(&none, &world, "m"), "c/m");
    let decision = decide(&read(&none), &chat(), "m", &world);
    assert_eq!((decision.retries, decision.is_last_resort), (0, false));
}

#[test]
fn targets_come_by_weight_and_fallbacks_in_order_afterwards() {
    let routes = json!({
        "r": { "targets": [{ "model": "x", "weight": 3 }, { "model": "y" }], "fallbacks": ["z", "s"] },
        "s": { "targets": [{ "model": "u", "weight": 0 }, { "model": "v" }], "fallbacks": ["w", "x"] },
    });
    let world = World::new(&[("x", "a"), ("y", "b"), ("z", "a"), ("u", "a"), ("v", "b"), ("w", "c")]);
    for (turn, expected) in [
        (0.0, "a/x b/y a/z b/v c/w"),
        (0.74, "a/x b/y a/z b/v c/w"),
        (0.75, "b/y a/x a/z b/v c/w"),
        (0.99, "b/y a/x a/z b/v c/w"),
    ] {
        world.turn.set(turn);
        assert_eq!(order(&routes, &world, "r"), expected, "{turn}");
    }
}

#[test]
fn weights_count_among_those_that_can_be_used() {
    let routes = json!({ "r": {
        "targets": [{ "model": "x", "weight": 98 }, { "model": "y" }, { "model": "z" }], "fallbacks": ["w"],
    } });
    let world = World::new(&[("x", "ab"), ("y", "a"), ("z", "a"), ("w", "a")]);
    world.turn.set(0.6);
    assert_eq!(order(&routes, &world, "r"), "a/x b/x a/z a/y a/w");
    // Of those who serve the same target, the next one stands in.
    let world = world.but(&[("a/x", Fault::Resting(9))]);
    assert_eq!(order(&routes, &world, "r"), "b/x a/z a/y a/w");
    let world = world.but(&[("a/x", Fault::Away), ("b/x", Fault::Probed)]);
    assert_eq!(order(&routes, &world, "r"), "a/z a/y a/w");
    let world = world.but(&[
        ("a/x", Fault::Away),
        ("b/x", Fault::Away),
        ("a/y", Fault::Away),
        ("a/z", Fault::Away),
    ]);
    let decision = decide(&read(&routes), &chat(), "r", &world);
    assert_eq!((tried(&decision).join(" "), decision.is_last_resort), ("a/w".to_owned(), false));
}

#[test]
fn where_nothing_can_be_used_what_rests_for_the_shortest_time_is_asked_for_want_of_another() {
    let routes = json!({ "r": { "targets": [{ "model": "x" }, { "model": "y" }], "fallbacks": ["z"] } });
    let world = World::new(&[("x", "a"), ("y", "a"), ("z", "a")]);
    for (faults, expected) in [
        ([("a/x", Fault::Resting(9)), ("a/y", Fault::Away), ("a/z", Fault::Resting(3))], "a/z"),
        ([("a/x", Fault::Resting(9)), ("a/y", Fault::Probed), ("a/z", Fault::Resting(3))], "a/y"),
        ([("a/x", Fault::Forbidden), ("a/y", Fault::Away), ("a/z", Fault::Away)], "a/y"),
        ([("a/x", Fault::Forbidden), ("a/y", Fault::Forbidden), ("a/z", Fault::Forbidden)], ""),
    ] {
        let world = world.clone().but(&faults);
        let decision = decide(&read(&routes), &chat(), "r", &world);
        assert_eq!((tried(&decision).join(" ").as_str(), decision.is_last_resort), (expected, true));
    }
}

#[test]
fn a_route_may_stand_before_the_model_of_its_name_and_is_for_its_capability_alone() {
    let routes =
        json!({ "m": { "targets": [{ "model": "m" }], "fallbacks": ["n"], "capability": "llm.chat" } });
    let world = World::new(&[("m", "a"), ("n", "b")]);
    assert_eq!(order(&routes, &world, "m"), "a/m b/n");
    let embed = "llm.embed".parse().unwrap();
    let decision = decide(&read(&routes), &embed, "m", &world);
    assert_eq!((decision.route.clone(), tried(&decision).join(" ")), (None, "a/m".to_owned()));
}

#[test]
fn a_model_whose_rest_is_over_is_tried_where_it_stands() {
    let routes = json!({ "r": { "targets": [{ "model": "x" }], "fallbacks": ["y"] } });
    let world = World::new(&[("x", "a"), ("y", "b")]).but(&[("a/x", Fault::Due)]);
    assert_eq!(order(&routes, &world, "r"), "a/x b/y");
}

#[test]
fn turns_give_every_target_its_share_of_few_requests_and_of_many() {
    let routes = json!({ "r": {
        "targets": [{ "model": "x", "weight": 7 }, { "model": "y", "weight": 2 }, { "model": "z" }],
    } });
    let world = World::new(&[("x", "a"), ("y", "b"), ("z", "c")]);
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for count in 0..10_000_u32 {
        world.turn.set(turn_of(u64::from(count)));
        let first = tried(&decide(&read(&routes), &chat(), "r", &world)).swap_remove(0);
        *counts.entry(first).or_default() += 1.0;
        for (name, share) in [("a/x", 0.7), ("b/y", 0.2), ("c/z", 0.1)] {
            let got = counts.get(name).copied().unwrap_or_default();
            let due = share * f64::from(count + 1);
            assert!((got - due).abs() < 4.0, "{name} has {got} of {} requests", count + 1);
        }
    }
}

#[test]
fn an_order_by_weight_begins_with_each_as_often_as_its_weight_says_and_names_all() {
    let weights = [5, 1, 3];
    let mut firsts = [0_u32; 3];
    let mut seconds = [0_u32; 3];
    for step in 0..9_000 {
        let order = by_weight(&weights, f64::from(step) / 9_000.0);
        firsts[order[0]] += 1;
        seconds[order[1]] += 1;
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 3);
    }
    assert_eq!(firsts, [5_000, 1_000, 3_000]);
    // Whatever comes first, the next is drawn by the weights that are left.
    for (place, expected) in [(0, 3_125.0), (1, 1_750.0), (2, 4_125.0)] {
        assert!((f64::from(seconds[place]) - expected).abs() < 20.0, "{seconds:?}");
    }
}

const NAMES: [&str; 8] = ["m0", "m1", "m2", "m3", "r0", "r1", "r2", "r3"];

fn routes() -> impl Strategy<Value = RoutingDocument> {
    let target = (0..4_usize, 0..4_u32);
    let route = (
        prop::collection::vec(target, 1..4),
        prop::collection::vec(0..NAMES.len(), 0..4),
        prop::option::of(0..6_u8),
    );
    let routes = prop::collection::btree_map(0..NAMES.len(), route, 0..6);
    routes.prop_filter_map("a document that is refused", |routes| {
        let routes: serde_json::Map<String, Value> = routes
            .into_iter()
            .map(|(name, (targets, fallbacks, retries))| {
                let targets: Vec<Value> = targets
                    .into_iter()
                    .map(|(model, weight)| json!({ "model": NAMES[model], "weight": weight }))
                    .collect();
                let fallbacks: Vec<&str> = fallbacks.into_iter().map(|name| NAMES[name]).collect();
                let route = json!({ "targets": targets, "fallbacks": fallbacks, "retries": retries });
                (NAMES[name].to_owned(), route)
            })
            .collect();
        RoutingDocument::read(&json!({ "routes": routes })).ok()
    })
}

fn worlds() -> impl Strategy<Value = World> {
    let fault = prop_oneof![
        Just(Fault::Away),
        (1..60_u64).prop_map(Fault::Resting),
        Just(Fault::Probed),
        Just(Fault::Due),
        Just(Fault::Forbidden),
    ];
    let models = prop::collection::vec(prop::sample::subsequence(vec!['a', 'b', 'c'], 0..=3), 4);
    let faults = prop::collection::btree_map((0..3_usize, 0..4_usize), fault, 0..12);
    (models, faults, 0.0..1.0_f64).prop_map(|(models, faults, turn)| World {
        models: NAMES.iter().map(|name| (*name).to_owned()).zip(models).collect(),
        faults: faults
            .into_iter()
            .map(|((plugin, model), fault)| {
                (format!("{}/{}", ["a", "b", "c"][plugin], NAMES[model]), fault)
            })
            .collect(),
        turn: Cell::new(turn),
    })
}

proptest! {
    #[test]
    fn every_decision_keeps_its_promises(
        document in routes(), world in worlds(), name in 0..NAMES.len(),
    ) {
        let model = NAMES[name];
        let decision = decide(&document, &chat(), model, &world);
        let order: Vec<usize> = decision.order().collect();
        let tried = tried(&decision);
        prop_assert_eq!(tried.iter().collect::<BTreeSet<_>>().len(), tried.len(), "nothing twice");
        for index in &order {
            let candidate = &decision.candidates[*index];
            let owner = candidate.owner.as_ref().unwrap();
            let fault = world.fault(owner);
            prop_assert!(fault != Some(Fault::Forbidden));
            prop_assert!(candidate.part != Part::Target(0), "what is drained gets nothing");
            if !decision.is_last_resort {
                prop_assert!(matches!(fault, None | Some(Fault::Due)), "{:?}", fault);
            }
        }
        for index in &decision.fallbacks {
            prop_assert_eq!(decision.candidates[*index].part, Part::Fallback);
        }
        if decision.is_last_resort {
            prop_assert!(order.len() <= 1);
            let usable = decision.candidates.iter().any(|candidate| candidate.verdict.is_usable());
            prop_assert!(!usable, "a rest keeps nobody from what could be used");
        } else {
            let usable = decision.candidates.iter().filter(|candidate| candidate.verdict.is_usable());
            prop_assert_eq!(usable.count(), order.len(), "all that can be used is in the order");
        }
        prop_assert_eq!(&decision, &decide(&document, &chat(), model, &world), "the same again");
    }
}
