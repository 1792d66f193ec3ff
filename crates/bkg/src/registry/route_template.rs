//! The routes that a plugin declares, read and checked: methods, path templates, and that no two of
//! them mean the same request.
//!
//! Not where they are served: that is [`super::RouteTable`]. The invariant: a [`DeclaredRoute`] can be
//! served, and its template is written in one way only. `bus` refuses registrations by it.

use std::collections::HashMap;
use std::fmt;

use bkg_protocol::CapabilityName;
use bkg_protocol::message::Route;
use http::Method;
use matchit::InsertError;

/// First segments of `/api/plugins/{name}/…` that belong to the host.
pub const HOST_SEGMENTS: [&str; 17] = [
    "status",
    "capabilities",
    "logs",
    "telemetry",
    "invoke",
    "info",
    "install",
    "uninstall",
    "update",
    "repair",
    "config",
    "start",
    "stop",
    "restart",
    "routes",
    "state",
    "ui",
];

/// How many routes one plugin may declare.
const MOST_ROUTES: usize = 1_024;
/// How long a template may be, in bytes.
const LONGEST_TEMPLATE: usize = 1_024;
/// How long the name of a parameter may be, in bytes.
const LONGEST_NAME: usize = 64;

/// A route as its plugin declared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredRoute {
    /// The method.
    pub method: Method,
    /// The path below where the plugin's routes live.
    pub template: Template,
    /// What answers it.
    pub capability: CapabilityName,
    /// Whether its answer is streamed.
    pub streaming: bool,
}

/// A path with places for parameters, without a slash at its end; the root has no segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Text(String),
    /// `{name}`: one segment.
    One(String),
    /// `{*name}`: everything that is left, at least one segment.
    Rest(String),
}

/// Why a list of routes cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There are too many.
    #[error(
        "{count} routes are more than the {MOST_ROUTES} that a plugin may have: take some together with `{{*rest}}`"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// One of them is wrong by itself.
    #[error("the route `{method} {path}` {fault}")]
    Wrong {
        /// Its method, as it was sent.
        method: String,
        /// Its path, as it was sent.
        path: String,
        /// What is wrong with it.
        fault: RouteFault,
    },
    /// Two of them mean the same requests.
    #[error("the routes {0} mean the same requests: keep one of them")]
    Twice(Pair),
    /// Two of them cannot be told apart in one place.
    #[error("the routes {0} have `{{name}}` and `{{*name}}` in the same place: use one of the two there")]
    Clash(Pair),
}

/// Two routes of one plugin that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{method} {path}` and `{other_method} {other_path}`")]
pub struct Pair {
    /// The method of the later one.
    pub method: String,
    /// The path of the later one.
    pub path: String,
    /// The method of the earlier one.
    pub other_method: String,
    /// The path of the earlier one.
    pub other_path: String,
}

/// What is wrong with one route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteFault {
    /// Its method is none that routes have.
    #[error("has no known method: use GET, HEAD, POST, PUT, PATCH or DELETE")]
    Method,
    /// It is no path.
    #[error("is no path: start with `/`, without `//`")]
    NoPath,
    /// It is too long.
    #[error("is longer than {LONGEST_TEMPLATE} bytes")]
    TooLong,
    /// It contains a segment that means another place.
    #[error("must not contain `.` or `..`")]
    Dots,
    /// It contains something that no path has.
    #[error("contains `{0}`: use letters, digits and `-._~!$&'()*+,;=:@`, as they are after decoding")]
    Character(char),
    /// A brace is not where a parameter can be.
    #[error(
        "has a brace out of place: `{{name}}` stands for a whole segment, `{{*name}}` for the rest of the path"
    )]
    Brace,
    /// A parameter has no usable name.
    #[error(
        "names a parameter `{0}`: use letters, digits and `_`, not first a digit, at most {LONGEST_NAME}"
    )]
    Name(String),
    /// Two parameters have one name.
    #[error("names the parameter `{0}` twice: give each a name of its own")]
    NameTwice(String),
    /// Something follows the rest.
    #[error("goes on after `{{*{0}}}`: that takes all that is left, so it must be the last segment")]
    AfterRest(String),
}

/// Reads the routes of a registration, in their order.
///
/// # Errors
/// The first that cannot be served, or the first two that cannot both be.
pub fn read_routes(routes: &[Route]) -> Result<Vec<DeclaredRoute>, RouteError> {
    if routes.len() > MOST_ROUTES {
        return Err(RouteError::TooMany { count: routes.len() });
    }
    let mut read: Vec<DeclaredRoute> = Vec::with_capacity(routes.len());
    let mut known: HashMap<(Method, String), usize> = HashMap::with_capacity(routes.len());
    let mut places = matchit::Router::new();
    for route in routes {
        let next = DeclaredRoute::read(route)?;
        let pair = |other: &DeclaredRoute| Pair {
            method: route.method.clone(),
            path: route.path.clone(),
            other_method: other.method.to_string(),
            other_path: other.template.to_string(),
        };
        let shape = next.template.shape("");
        // The matcher knows no methods: what it holds already is the same place with another one.
        if let Err(InsertError::Conflict { with }) = places.insert(shape.as_str(), ())
            && with != shape
            && let Some(other) = read.iter().find(|other| other.template.shape("") == with)
        {
            return Err(RouteError::Clash(pair(other)));
        }
        if let Some(place) = known.insert((next.method.clone(), shape), read.len()) {
            return Err(RouteError::Twice(pair(&read[place])));
        }
        read.push(next);
    }
    Ok(read)
}

impl DeclaredRoute {
    fn read(route: &Route) -> Result<Self, RouteError> {
        let wrong =
            |fault| RouteError::Wrong { method: route.method.clone(), path: route.path.clone(), fault };
        let method = match route.method.as_str() {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => return Err(wrong(RouteFault::Method)),
        };
        let template = Template::read(&route.path).map_err(wrong)?;
        Ok(Self { method, template, capability: route.capability.clone(), streaming: route.streaming })
    }
}

impl Template {
    /// Reads a template; one slash at its end means nothing.
    fn read(text: &str) -> Result<Self, RouteFault> {
        if text.len() > LONGEST_TEMPLATE {
            return Err(RouteFault::TooLong);
        }
        let inner = text.strip_prefix('/').ok_or(RouteFault::NoPath)?;
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if inner.is_empty() {
            return if text == "/" { Ok(Self { segments: Vec::new() }) } else { Err(RouteFault::NoPath) };
        }
        let mut segments: Vec<Segment> = Vec::new();
        for segment in inner.split('/') {
            if let Some(Segment::Rest(name)) = segments.last() {
                return Err(RouteFault::AfterRest(name.clone()));
            }
            let segment = Segment::read(segment)?;
            if let Some(name) = segment.name()
                && segments.iter().any(|other| other.name() == Some(name))
            {
                return Err(RouteFault::NameTwice(name.to_owned()));
            }
            segments.push(segment);
        }
        Ok(Self { segments })
    }

    /// The first segment, where it is always the same.
    pub fn first_text(&self) -> Option<&str> {
        match self.segments.first()? {
            Segment::Text(text) => Some(text),
            Segment::One(_) | Segment::Rest(_) => None,
        }
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.segments.is_empty()
    }

    /// The names of the parameters, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// The template below `mount` with its parameters numbered: equal for templates that mean the same
    /// paths, whatever their parameters are called.
    pub(super) fn shape(&self, mount: &str) -> String {
        let mut shape = mount.to_owned();
        for (number, segment) in self.segments.iter().enumerate() {
            shape.push('/');
            match segment {
                Segment::Text(text) => shape.push_str(text),
                Segment::One(_) => shape.push_str(&format!("{{p{number}}}")),
                Segment::Rest(_) => shape.push_str(&format!("{{*p{number}}}")),
            }
        }
        shape
    }
}

impl fmt::Display for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return out.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Text(text) => write!(out, "/{text}"),
            Segment::One(name) => write!(out, "/{{{name}}}"),
            Segment::Rest(name) => write!(out, "/{{*{name}}}"),
        })
    }
}

impl Segment {
    fn read(text: &str) -> Result<Self, RouteFault> {
        if text.is_empty() {
            return Err(RouteFault::NoPath);
        }
        if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            return Ok(match inner.strip_prefix('*') {
                Some(name) => Self::Rest(parameter(name)?),
                None => Self::One(parameter(inner)?),
            });
        }
        if text.contains(['{', '}']) {
            return Err(RouteFault::Brace);
        }
        if text == "." || text == ".." {
            return Err(RouteFault::Dots);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c);
        match text.chars().find(|c| !is_plain(*c)) {
            Some(c) => Err(RouteFault::Character(c)),
            None => Ok(Self::Text(text.to_owned())),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }
}

fn parameter(name: &str) -> Result<String, RouteFault> {
    if name.contains(['{', '}']) {
        return Err(RouteFault::Brace);
    }
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if is_word && begins && name.len() <= LONGEST_NAME {
        Ok(name.to_owned())
    } else {
        Err(RouteFault::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(line: &str) -> Route {
        let (method, path) = line.split_once(' ').unwrap();
        Route {
            method: method.to_owned(),
            path: path.to_owned(),
            capability: "a.b".parse().unwrap(),
            streaming: false,
        }
    }

    fn read(lines: &[&str]) -> Result<Vec<String>, String> {
        let routes: Vec<Route> = lines.iter().map(|line| route(line)).collect();
        let read = read_routes(&routes).map_err(|error| error.to_string())?;
        Ok(read.iter().map(|route| format!("{} {}", route.method, route.template)).collect())
    }

    #[test]
    fn a_template_is_written_in_one_way_only() {
        for (line, kept) in [
            ("GET /", "GET /"),
            ("GET /a", "GET /a"),
            ("GET /a/", "GET /a"),
            ("POST /a/{b}/c", "POST /a/{b}/c"),
            ("DELETE /{x}/{*y}", "DELETE /{x}/{*y}"),
            ("PUT /a.b~c:d@e", "PUT /a.b~c:d@e"),
        ] {
            assert_eq!(read(&[line]), Ok(vec![kept.to_owned()]), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_the_reason() {
        for (line, reason) in [
            ("get /", "has no known method: use GET, HEAD, POST, PUT, PATCH or DELETE"),
            ("OPTIONS /", "has no known method: use GET, HEAD, POST, PUT, PATCH or DELETE"),
            ("GET ", "is no path: start with `/`, without `//`"),
            ("GET a", "is no path: start with `/`, without `//`"),
            ("GET //", "is no path: start with `/`, without `//`"),
            ("GET /a//b", "is no path: start with `/`, without `//`"),
            ("GET /a//", "is no path: start with `/`, without `//`"),
            ("GET /a/../b", "must not contain `.` or `..`"),
            ("GET /./b", "must not contain `.` or `..`"),
            ("GET /a%2fb", "contains `%`"),
            ("GET /a?b", "contains `?`"),
            ("GET /a\\b", "contains `\\`"),
            ("GET /a b", "contains ` `"),
            ("GET /é", "contains `é`"),
            ("GET /a{b}", "has a brace out of place"),
            ("GET /{b}c", "has a brace out of place"),
            ("GET /{b", "has a brace out of place"),
            ("GET /b}", "has a brace out of place"),
            ("GET /{{b}}", "has a brace out of place"),
            ("GET /{}", "names a parameter ``"),
            ("GET /{*}", "names a parameter ``"),
            ("GET /{1a}", "names a parameter `1a`"),
            ("GET /{a-b}", "names a parameter `a-b`"),
            ("GET /{a}/{a}", "names the parameter `a` twice"),
            ("GET /{a}/x/{*a}", "names the parameter `a` twice"),
            ("GET /{*a}/x", "goes on after `{*a}`"),
        ] {
            let refused = read(&[line]).unwrap_err();
            assert!(
                refused.contains(reason) && refused.contains(&format!("`{line}`")),
                "{line}: {refused}"
            );
        }
        let long = format!("GET /{}", "a".repeat(LONGEST_TEMPLATE));
        assert!(read(&[&long]).unwrap_err().contains("is longer than"));
        assert!(read(&vec!["GET /"; MOST_ROUTES + 1]).unwrap_err().contains("take some together"));
    }

    #[test]
    fn two_routes_for_the_same_requests_are_refused() {
        for lines in [["GET /a", "GET /a/"], ["GET /{x}/b", "GET /{y}/b"], ["GET /{*x}", "GET /{*y}"]] {
            let refused = read(&lines).unwrap_err();
            assert!(refused.contains("mean the same requests"), "{lines:?}: {refused}");
        }
        for lines in [["GET /a/{x}", "GET /a/{*y}"], ["POST /{*x}", "GET /{y}/b"]] {
            let refused = read(&lines).unwrap_err();
            assert!(refused.contains("in the same place"), "{lines:?}: {refused}");
        }
        for lines in [["GET /a", "POST /a"], ["GET /{x}", "GET /a"], ["GET /{x}", "DELETE /{y}"]] {
            assert!(read(&lines).is_ok(), "{lines:?}");
        }
    }
}
