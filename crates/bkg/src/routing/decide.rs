//! Which models a request is tried at, and in which order: a pure function of the routing document and of
//! how things are.
//!
//! It asks nobody and remembers nothing; whoever calls makes the attempts. The invariants: a model that
//! the caller may not use is never in the order, nor the same model of a plugin twice; one that rests or
//! cannot be reached is there only if there is nothing else, and then alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{CapabilityName, PluginName};

use super::Standing;
use crate::config::{ModelName, Route, RoutingDocument};
use crate::registry::ModelOwner;

/// How things are when a decision is made.
pub trait Circumstances {
    /// Who serves a model, in order of preference, however it is named.
    fn owners(&self, model: &str) -> Vec<Arc<ModelOwner>>;
    /// Whether its plugin would take a request now.
    ///
    /// # Errors
    /// One sentence on why not.
    fn takes(&self, owner: &ModelOwner) -> Result<(), String>;
    /// What its answers say about it.
    fn standing(&self, owner: &ModelOwner) -> Standing;
    /// Whether whoever asks may use it.
    fn permits(&self, owner: &ModelOwner) -> bool;
    /// Where in a route's weights this request falls, from 0 to below 1.
    fn turn(&self, route: &ModelName) -> f64;
}

/// What is to be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The route, if the name is one's.
    pub route: Option<ModelName>,
    /// Everything that was looked at, as the route lists it.
    pub candidates: Vec<Candidate>,
    /// The candidates of which one is chosen, the chosen one first.
    pub targets: Vec<usize>,
    /// The candidates that are asked afterwards, in order.
    pub fallbacks: Vec<usize>,
    /// How many further attempts there are at the targets.
    pub retries: usize,
    /// Whether the only target rests or cannot be reached, and is asked for want of another.
    pub is_last_resort: bool,
}

/// A model of a plugin that a request may be tried at.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The name in the document, or the one that was asked for.
    pub named: String,
    /// Whose model it is.
    pub owner: Option<Arc<ModelOwner>>,
    /// Why it is looked at.
    pub part: Part,
    /// Whether it can be used now.
    pub verdict: Verdict,
}

/// Why a model is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// No route is called so: it is the model itself.
    Model,
    /// A target of the route, with this weight.
    Target(u32),
    /// A fallback of the route.
    Fallback,
}

/// Whether a candidate can be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Usable,
    /// It can, once: its rest is over, and one request finds out whether it answers again.
    Probe,
    /// It has failed too often, and is left alone for so long.
    Resting(Duration),
    /// Its rest is over, and another request is finding out.
    Probed,
    /// Its weight is 0.
    Drained,
    /// Its plugin does not take requests now.
    Away(String),
    /// No plugin offers it.
    Unknown,
    /// Whoever asks may not use it.
    Forbidden,
    /// It is among the candidates already.
    Repeated,
}

impl Verdict {
    fn is_usable(&self) -> bool {
        matches!(self, Self::Usable | Self::Probe)
    }
}

impl Decision {
    /// The candidates in the order in which they are tried, each once.
    pub fn order(&self) -> impl Iterator<Item = usize> {
        self.targets.iter().chain(&self.fallbacks).copied()
    }

    /// Whether there is a model that the caller may not use.
    pub fn is_forbidden(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.verdict == Verdict::Forbidden)
    }
}

/// The route that a name stands for when a capability is asked for.
pub fn route_for<'a>(
    document: &'a RoutingDocument,
    capability: &CapabilityName,
    name: &str,
) -> Option<(&'a ModelName, &'a Route)> {
    let is_for = |route: &Route| route.capability.is_none_or(|own| own.as_str() == capability.as_str());
    document.routes.get_key_value(name).filter(|(_, route)| is_for(route))
}

/// Decides where a request that names `model` is tried.
pub fn decide(
    document: &RoutingDocument,
    capability: &CapabilityName,
    model: &str,
    now: &impl Circumstances,
) -> Decision {
    let mut choice = Choice { document, capability, now, candidates: Vec::new(), seen: BTreeSet::new() };
    let Some((name, route)) = route_for(document, capability, model) else {
        let targets = choice.look_at(model, Part::Model);
        return choice.decided(None, targets, Vec::new(), None);
    };
    let targets = choice.targets(name, route, Part::Target);
    let mut fallbacks = Vec::new();
    let mut visited = BTreeSet::from([name]);
    choice.fallbacks(route, &mut visited, &mut fallbacks);
    choice.decided(Some(name.clone()), targets, fallbacks, route.retries)
}

/// A decision that is being made.
struct Choice<'a, C> {
    document: &'a RoutingDocument,
    capability: &'a CapabilityName,
    now: &'a C,
    candidates: Vec<Candidate>,
    seen: BTreeSet<(PluginName, String)>,
}

impl<'a, C: Circumstances> Choice<'a, C> {
    /// Looks at everybody who serves a model; answers those that can be used, in order of preference.
    fn look_at(&mut self, named: &str, part: Part) -> Vec<usize> {
        let owners = self.now.owners(named);
        let first = self.candidates.len();
        if owners.is_empty() {
            let named = named.to_owned();
            self.candidates.push(Candidate { named, owner: None, part, verdict: Verdict::Unknown });
        }
        for owner in owners {
            let verdict = self.verdict(&owner, part);
            let named = named.to_owned();
            self.candidates.push(Candidate { named, owner: Some(owner), part, verdict });
        }
        (first..self.candidates.len()).filter(|index| self.candidates[*index].verdict.is_usable()).collect()
    }

    fn verdict(&mut self, owner: &ModelOwner, part: Part) -> Verdict {
        if !self.now.permits(owner) {
            return Verdict::Forbidden;
        }
        if part == Part::Target(0) {
            return Verdict::Drained;
        }
        if !self.seen.insert((owner.plugin.clone(), owner.model.id.clone())) {
            return Verdict::Repeated;
        }
        if let Err(why) = self.now.takes(owner) {
            return Verdict::Away(why);
        }
        match self.now.standing(owner) {
            Standing::Fit => Verdict::Usable,
            Standing::Due => Verdict::Probe,
            Standing::Probed => Verdict::Probed,
            Standing::Resting(left) => Verdict::Resting(left),
        }
    }

    /// The targets of a route that can be used: those of the one whose turn it is first.
    fn targets(&mut self, name: &ModelName, route: &Route, part: impl Fn(u32) -> Part) -> Vec<usize> {
        let mut groups = Vec::new();
        for target in &route.targets {
            // A fallback that is a route chooses among its own targets: what is drained there is so too.
            let part = if target.weight == 0 { Part::Target(0) } else { part(target.weight) };
            let usable = self.look_at(target.model.as_str(), part);
            if !usable.is_empty() {
                groups.push((target.weight, usable));
            }
        }
        let weights: Vec<u32> = groups.iter().map(|(weight, _)| *weight).collect();
        // Where there is nothing to choose, no turn is taken.
        let turn = if groups.len() > 1 { self.now.turn(name) } else { 0.0 };
        by_weight(&weights, turn).into_iter().flat_map(|group| groups[group].1.clone()).collect()
    }

    fn fallbacks(
        &mut self,
        route: &'a Route,
        visited: &mut BTreeSet<&'a ModelName>,
        found: &mut Vec<usize>,
    ) {
        for fallback in &route.fallbacks {
            let Some((name, other)) = route_for(self.document, self.capability, fallback.as_str()) else {
                found.extend(self.look_at(fallback.as_str(), Part::Fallback));
                continue;
            };
            // Two fallbacks may lead to the same route; its models are asked once.
            if visited.insert(name) {
                found.extend(self.targets(name, other, |_| Part::Fallback));
                self.fallbacks(other, visited, found);
            }
        }
    }

    fn decided(
        self,
        route: Option<ModelName>,
        mut targets: Vec<usize>,
        fallbacks: Vec<usize>,
        retries: Option<u8>,
    ) -> Decision {
        let is_last_resort = targets.is_empty() && fallbacks.is_empty();
        if is_last_resort {
            targets.extend(last_resort(&self.candidates));
        }
        let retries = retries.map_or(targets.len().saturating_sub(1), usize::from);
        Decision { route, candidates: self.candidates, targets, fallbacks, retries, is_last_resort }
    }
}

/// What is asked where nothing can be used: what comes back first from its rest, else what is away, which
/// then says why. A rest keeps requests from where others would answer; it refuses none.
fn last_resort(candidates: &[Candidate]) -> Option<usize> {
    let left = |candidate: &Candidate| match candidate.verdict {
        Verdict::Probed => Some(Duration::ZERO),
        Verdict::Resting(left) => Some(left),
        _ => None,
    };
    let indexed = || candidates.iter().enumerate();
    let resting = indexed().filter_map(|(index, candidate)| Some((left(candidate)?, index))).min();
    let away = || indexed().find(|(_, candidate)| matches!(candidate.verdict, Verdict::Away(_)));
    resting.map(|(_, index)| index).or_else(|| away().map(|(index, _)| index))
}

/// The places of weights in an order that is drawn by weight, first to last; `turn` is from 0 to below 1.
fn by_weight(weights: &[u32], turn: f64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..weights.len()).collect();
    let mut order = Vec::with_capacity(weights.len());
    let mut turn = turn;
    while !left.is_empty() {
        let total: f64 = left.iter().map(|place| f64::from(weights[*place])).sum();
        let mut at = turn * total;
        let within = |place: &usize| {
            let weight = f64::from(weights[*place]);
            let is_here = at < weight;
            if !is_here {
                at -= weight;
            }
            is_here
        };
        // Rounding may carry the last one past its end.
        let chosen = left.iter().position(within).unwrap_or(left.len() - 1);
        let place = left.remove(chosen);
        order.push(place);
        // Where it fell inside of the chosen weight is even again, and draws the next.
        turn = (at / f64::from(weights[place])).clamp(0.0, 1.0 - f64::EPSILON);
    }
    order
}

/// The fraction that belongs to the `count`th request: multiples of the golden ratio, without their whole
/// part, spread evenly however few or many there are.
pub(super) fn turn_of(count: u64) -> f64 {
    // 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    let spread = count.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (spread >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
