//! Which route of a plugin a request means: one table of all plugins, immutable, part of the view.
//!
//! Not whether the caller may use it, and not whether anybody answers at this moment: a plugin keeps
//! the routes of its last registration while it restarts. The invariant: what the host keeps for itself
//! below `/api/plugins/{name}` is never a plugin's. `gateway` asks it, `admin` lists it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bkg_protocol::{CapabilityName, PluginName};
use http::Method;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::PluginRecord;
use super::route_template::{DeclaredRoute, HOST_SEGMENTS};

/// Below which every plugin's routes live, each below its name.
const PLUGINS: &str = "/api/plugins/";

/// All routes of plugins at one moment.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<LiveRoute>>,
    places: matchit::Router<Place>,
}

/// A route where clients reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveRoute {
    /// The method.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub method: Method,
    /// The whole path, with `{name}` for a segment and `{*name}` for the rest.
    pub path: String,
    /// Whose it is.
    pub plugin: PluginName,
    /// What answers it.
    pub capability: CapabilityName,
    /// Whether its answer is streamed.
    pub streaming: bool,
    /// How many segments of the path lead to where the plugin's own begin.
    #[serde(skip)]
    mount: usize,
}

fn as_text<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

/// The routes that differ in nothing but their method.
#[derive(Debug, Default)]
struct Place {
    ways: Vec<Way>,
}

#[derive(Debug)]
struct Way {
    route: Arc<LiveRoute>,
    /// What this way calls the parameters, in their order.
    names: Vec<String>,
}

/// What a request means.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup {
    /// This route.
    Found(Found),
    /// A path of a plugin, but not with this method.
    WrongMethod {
        /// The methods that it has.
        allow: Vec<Method>,
    },
    /// No route.
    Nothing,
}

/// A route with what its parameters stand for.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The route.
    pub route: Arc<LiveRoute>,
    /// The parameters.
    pub params: BTreeMap<String, String>,
}

impl RouteTable {
    /// The table of the routes that plugins declared, in catalogue order.
    pub(super) fn new<'a>(plugins: impl Iterator<Item = &'a Arc<PluginRecord>>) -> Self {
        let mut routes = Vec::new();
        let mut places: IndexMap<String, Place> = IndexMap::new();
        for record in plugins {
            for route in record.declared().into_iter().flat_map(|declared| declared.iter()) {
                for (mount, path, shape) in whereabouts(record, route) {
                    let live = Arc::new(LiveRoute {
                        method: route.method.clone(),
                        path,
                        plugin: record.entry.name.clone(),
                        capability: route.capability.clone(),
                        streaming: route.streaming,
                        mount,
                    });
                    let place = places.entry(shape).or_default();
                    // Only where the prefixes of two plugins overlap, which discovery refuses.
                    if place.way(&live.method).is_some() {
                        continue;
                    }
                    let names = route.template.names().map(str::to_owned).collect();
                    place.ways.push(Way { route: Arc::clone(&live), names });
                    routes.push(live);
                }
            }
        }
        let mut table = Self { routes, places: matchit::Router::new() };
        for (shape, place) in places {
            if let Err(error) = table.places.insert(shape.as_str(), place) {
                tracing::error!(shape, %error, "a route of a plugin cannot be served");
                table.routes.retain(|route| table.places.at(&route.path).is_ok());
            }
        }
        table
    }

    /// Every route, in catalogue order; one that its plugin has in two places comes twice.
    pub fn routes(&self) -> impl Iterator<Item = &LiveRoute> {
        self.routes.iter().map(|route| &**route)
    }

    /// What a request means; `path` is decoded. HEAD is answered by GET where it has no route of its own.
    pub fn lookup(&self, method: &Method, path: &str) -> Lookup {
        if names_what_is_the_hosts(path) {
            return Lookup::Nothing;
        }
        let Ok(at) = self.places.at(path) else { return Lookup::Nothing };
        let way = match *method {
            Method::HEAD => at.value.way(&Method::HEAD).or_else(|| at.value.way(&Method::GET)),
            _ => at.value.way(method),
        };
        match way {
            Some(way) => {
                let values = at.params.iter().map(|(_, value)| value.to_owned());
                let params = way.names.iter().cloned().zip(values).collect();
                Lookup::Found(Found { route: Arc::clone(&way.route), params })
            }
            None => Lookup::WrongMethod { allow: at.value.methods() },
        }
    }
}

impl Place {
    fn way(&self, method: &Method) -> Option<&Way> {
        self.ways.iter().find(|way| way.route.method == *method)
    }

    /// The methods that it has, always in the same order.
    fn methods(&self) -> Vec<Method> {
        let all = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let has = |method: &Method| {
            self.way(method).is_some() || (*method == Method::HEAD && self.way(&Method::GET).is_some())
        };
        all.into_iter().filter(has).chain([Method::OPTIONS]).collect()
    }
}

impl LiveRoute {
    /// The part of a request's path, as it was sent, that is the plugin's own.
    pub fn below<'a>(&self, path: &'a str) -> &'a str {
        path.match_indices('/').nth(self.mount).map_or("/", |(at, _)| &path[at..])
    }
}

impl PluginRecord {
    /// The paths below which this plugin's routes live: below its name, and below the prefix that its
    /// entry grants.
    pub fn mounts(&self) -> impl Iterator<Item = String> {
        let name = format!("{PLUGINS}{}", self.entry.name);
        std::iter::once(name).chain(self.entry.route_prefix.clone())
    }
}

/// Where a route lives: how many segments lead there, its path, and its shape for the matcher. One that
/// begins with a word of the host's lives below the plugin's own prefix alone.
fn whereabouts(record: &PluginRecord, route: &DeclaredRoute) -> Vec<(usize, String, String)> {
    let is_the_hosts = route.template.first_text().is_some_and(|first| HOST_SEGMENTS.contains(&first));
    let mut found = Vec::new();
    for (number, mount) in record.mounts().enumerate() {
        let is_below_name = number == 0;
        if is_below_name && is_the_hosts {
            continue;
        }
        // `/api/plugins/{name}` itself is the host's own page of the plugin; a prefix is wholly its own.
        let root = if is_below_name { "/" } else { "" };
        let (tail, shape) = match route.template.is_root() {
            true => (root.to_owned(), format!("{mount}{root}")),
            false => (route.template.to_string(), route.template.shape(&mount)),
        };
        found.push((mount.matches('/').count(), format!("{mount}{tail}"), shape));
    }
    found
}

/// Whether a path below a plugin's name is the host's, which a parameter in the first place must not
/// take for itself.
pub fn names_what_is_the_hosts(path: &str) -> bool {
    let below = path.strip_prefix(PLUGINS).and_then(|rest| rest.split('/').nth(1));
    below.is_some_and(|first| HOST_SEGMENTS.contains(&first))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bkg_protocol::message::{Register, Route};

    use super::super::Registration;
    use super::*;
    use crate::config::PluginEntry;

    /// A plugin with a prefix or an empty text, and its routes; each answered by a capability that is
    /// named after its place in the list.
    fn record(name: &str, prefix: &str, routes: &[&str]) -> Arc<PluginRecord> {
        let folder = tempfile::tempdir().unwrap();
        let prefix = if prefix.is_empty() { None } else { Some(prefix) };
        let manifest = serde_json::json!({ "name": name, "routePrefix": prefix });
        std::fs::write(folder.path().join("plugin.json"), manifest.to_string()).unwrap();
        let entry = PluginEntry::load(folder.path(), None).unwrap();
        let routes: Vec<Route> = routes
            .iter()
            .enumerate()
            .map(|(number, line)| {
                let (method, path) = line.split_once(' ').unwrap();
                Route {
                    method: method.to_owned(),
                    path: path.to_owned(),
                    capability: format!("{name}.r{number}").parse().unwrap(),
                    streaming: false,
                }
            })
            .collect();
        let register = Register { routes, ..Register::new(entry.name.clone()) };
        let registered = Some(Arc::new(Registration::new(register)));
        Arc::new(PluginRecord { registered, ..PluginRecord::new(Arc::new(entry), PathBuf::new()) })
    }

    /// What a request means, as one line.
    fn meaning(table: &RouteTable, line: &str) -> String {
        let (method, path) = line.split_once(' ').unwrap();
        match table.lookup(&method.parse().unwrap(), path) {
            Lookup::Nothing => "nothing".to_owned(),
            Lookup::WrongMethod { allow } => allow.iter().map(Method::as_str).collect::<Vec<_>>().join(","),
            Lookup::Found(Found { route, params }) => {
                let params: Vec<String> =
                    params.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {} {}", route.capability, route.below(path), params.join("&")).trim().to_owned()
            }
        }
    }

    #[test]
    fn a_request_means_the_most_exact_route() {
        let one = record(
            "one",
            "",
            &[
                "GET /",
                "GET /a",
                "GET /a/{x}",
                "POST /a/{y}",
                "GET /a/{x}/b",
                "GET /a/fix",
                "GET /f/{*rest}",
            ],
        );
        let table = RouteTable::new([one].iter());
        for (line, due) in [
            ("GET /api/plugins/one/", "one.r0 /"),
            ("HEAD /api/plugins/one/", "one.r0 /"),
            ("GET /api/plugins/one", "nothing"),
            ("GET /api/plugins/one/a", "one.r1 /a"),
            ("GET /api/plugins/one/a/", "nothing"),
            ("GET /api/plugins/one/a/7", "one.r2 /a/7 x=7"),
            ("POST /api/plugins/one/a/7", "one.r3 /a/7 y=7"),
            ("POST /api/plugins/one/a/fix", "GET,HEAD,OPTIONS"),
            ("DELETE /api/plugins/one/a/7", "GET,HEAD,POST,OPTIONS"),
            ("OPTIONS /api/plugins/one/", "GET,HEAD,OPTIONS"),
            ("GET /api/plugins/one/a/7/b", "one.r4 /a/7/b x=7"),
            ("GET /api/plugins/one/a/fix", "one.r5 /a/fix"),
            ("GET /api/plugins/one/a/fix/b", "one.r4 /a/fix/b x=fix"),
            ("GET /api/plugins/one/f/x/y z", "one.r6 /f/x/y z rest=x/y z"),
            ("GET /api/plugins/one/f", "nothing"),
            ("GET /api/plugins/two/a", "nothing"),
            ("GET /", "nothing"),
        ] {
            assert_eq!(meaning(&table, line), due, "{line}");
        }
    }

    #[test]
    fn whatever_may_be_declared_finds_its_place_beside_everything_else() {
        let mut all = vec!["GET /".to_owned()];
        for one in ["a", "ab", "{x}"] {
            all.push(format!("GET /{one}"));
            for two in ["a", "ab", "{y}"] {
                all.push(format!("GET /{one}/{two}"));
                all.extend(["a", "{*r}"].map(|three| format!("GET /{one}/{two}/{three}")));
            }
        }
        for turn in 0..all.len() {
            all.rotate_left(1);
            let lines: Vec<&str> = all.iter().map(String::as_str).collect();
            let table = RouteTable::new([record("one", "", &lines)].iter());
            assert_eq!(table.routes().count(), all.len(), "turn {turn}");
            for (number, line) in lines.iter().enumerate() {
                let path = line.replace("GET ", "/api/plugins/one");
                let path = path.replace("{*r}", "7/8/9");
                let path = path.replace("{x}", "7").replace("{y}", "8");
                let found = meaning(&table, &format!("GET {path}"));
                assert!(found.starts_with(&format!("one.r{number} ")), "{line}: {found}");
            }
        }
    }

    #[test]
    fn a_parameter_in_the_first_place_does_not_take_what_is_the_hosts() {
        let table = RouteTable::new([record("one", "", &["GET /{x}", "GET /{x}/{*y}"])].iter());
        assert_eq!(meaning(&table, "GET /api/plugins/one/other"), "one.r0 /other x=other");
        for segment in HOST_SEGMENTS {
            assert_eq!(meaning(&table, &format!("GET /api/plugins/one/{segment}")), "nothing");
            assert_eq!(meaning(&table, &format!("GET /api/plugins/one/{segment}/z")), "nothing");
        }
    }

    #[test]
    fn a_prefix_is_a_second_place_where_every_word_is_the_plugins() {
        let goose = record("goose", "/api/goose", &["POST /", "GET /status", "GET /{x}"]);
        let table = RouteTable::new([record("one", "", &["GET /"]), goose].iter());
        for (line, due) in [
            ("POST /api/goose", "goose.r0 /"),
            ("POST /api/plugins/goose/", "goose.r0 /"),
            ("GET /api/goose/status", "goose.r1 /status"),
            ("GET /api/plugins/goose/status", "nothing"),
            ("GET /api/goose/x", "goose.r2 /x x=x"),
            ("GET /api/plugins/goose/x", "goose.r2 /x x=x"),
        ] {
            assert_eq!(meaning(&table, line), due, "{line}");
        }
        let paths: Vec<String> =
            table.routes().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(
            paths,
            [
                "GET /api/plugins/one/",
                "POST /api/plugins/goose/",
                "POST /api/goose",
                "GET /api/goose/status",
                "GET /api/plugins/goose/{x}",
                "GET /api/goose/{x}",
            ]
        );
    }
}
