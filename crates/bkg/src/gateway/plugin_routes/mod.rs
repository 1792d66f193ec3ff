//! The HTTP routes of plugins: a request to one of them becomes a request on the bus, and its answer a
//! response.
//!
//! Which route is meant says the table in `registry`. The invariants: the credential is checked before
//! the body is read; the plugin is told nothing of the request but what is listed in `request`; and
//! nothing that it answers acts on this origin in the user's name, which `head` sees to.

mod answer;
mod head;
mod request;
mod stream;

use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::host::Contract;
use bkg_protocol::message::LogLevel;
use bkg_protocol::{ErrorCode, Limits};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use crate::auth::{Caller, scope_of};
use crate::config::HttpLimits;
use crate::dispatcher::{Answer, CallError, Dispatcher, Question, Target};
use crate::error::{Dialect, Problem};
use crate::logs::{Logs, NewLine};
use crate::registry::{Found, LiveRoute, Lookup, PluginRecord, Registry, State};
use crate::web::{Access, Call, Endpoint, FROM_PLUGINS, Form, Metering, Routes, Tag, decoded_path};
use head::Asked;

/// What the routes of plugins are served with.
#[derive(Debug)]
pub struct PluginRoutes {
    /// Who carries requests to plugins.
    pub dispatcher: Arc<Dispatcher>,
    /// Which routes there are.
    pub registry: Arc<Registry>,
    /// Bounds of requests.
    pub limits: HttpLimits,
    /// Bounds of frames.
    pub frames: Limits,
    /// Where what requests used is written down.
    pub metering: Arc<Metering>,
    /// Where plugins are told what was left out of their answers.
    pub logs: Logs,
}

/// Adds the places where plugins' routes live, and the list of them. Routes of the host's own win.
pub fn routes(routes: Routes, plugins: &Arc<PluginRoutes>) -> Routes {
    let list = Endpoint::get("/api/plugins/routes", Access::AnyCaller)
        .summary(Tag::PluginRoutes, "List the routes of plugins")
        .answers::<Vec<LiveRoute>>(200, "Those that the caller may use, with their whole paths.");
    let mut routes = routes.add(list, plugins, self::list);
    for path in ["/api/plugins/{name}/", "/api/plugins/{name}/{*path}", "/api/{*path}"] {
        for endpoint in [Endpoint::get, Endpoint::post, Endpoint::put, Endpoint::patch, Endpoint::delete] {
            let served = endpoint(path, Access::Capability)
                .summary(Tag::PluginRoutes, "Ask a route of a plugin")
                .answers::<Value>(200, "What the plugin answered; it may choose another status and type.")
                .errors(FROM_PLUGINS);
            routes = routes.add(named(served), plugins, serve);
        }
        let options = Endpoint::options(path, Access::AnyCaller)
            .summary(Tag::PluginRoutes, "List the methods of a path")
            .answers_nothing(204, "`Allow` names them.")
            .errors(&[ErrorCode::NotFound, ErrorCode::PluginUnavailable]);
        routes = routes.add(named(options), plugins, self::options);
    }
    routes
}

/// Describes the names in a path where any route of a plugin may be.
fn named(endpoint: Endpoint) -> Endpoint {
    let names: Vec<&str> = endpoint.path_names().collect();
    let describe = |endpoint: Endpoint, name| match name {
        "name" => endpoint.path::<String>(name, "The plugin's name."),
        name => endpoint.path::<String>(name, "The path of the route."),
    };
    names.into_iter().fold(endpoint.catching_all(), describe)
}

/// The routes that the caller may use.
async fn list(plugins: Arc<PluginRoutes>, call: Call, _: Body) -> Result<Response, Problem> {
    let table = Arc::clone(plugins.registry.view().routes());
    let usable: Vec<&LiveRoute> =
        table.routes().filter(|route| plugins.admit(&call.caller, route).is_ok()).collect();
    Ok(axum::Json(usable).into_response())
}

/// Which methods a path has.
async fn options(plugins: Arc<PluginRoutes>, call: Call, _: Body) -> Result<Response, Problem> {
    let path = decoded_path(call.parts.uri.path())?;
    match plugins.registry.view().routes().lookup(&Method::OPTIONS, &path) {
        Lookup::WrongMethod { allow } => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            response.headers_mut().insert(header::ALLOW, allow_header(&allow));
            Ok(response)
        }
        Lookup::Nothing | Lookup::Found(_) => Err(plugins.nothing_at(&path)),
    }
}

async fn serve(plugins: Arc<PluginRoutes>, call: Call, body: Body) -> Result<Response, Problem> {
    let path = decoded_path(call.parts.uri.path())?;
    let mut looked_up = plugins.registry.view().routes().lookup(&call.parts.method, &path);
    if matches!(looked_up, Lookup::Nothing)
        && let Some(record) = plugins.asleep_at(&path, &call.caller)
    {
        let deadline = call.lineage(plugins.limits.request_timeout).deadline;
        let woken = call.while_allowed(plugins.dispatcher.wake(&record, deadline)).await;
        woken.map_err(|problem| match problem.code {
            ErrorCode::PluginUnavailable => {
                Problem { retry_after: problem.retry_after, ..plugins.nothing_at(&path) }
            }
            _ => problem,
        })?;
        looked_up = plugins.registry.view().routes().lookup(&call.parts.method, &path);
    }
    let Found { route, params } = match looked_up {
        Lookup::Found(found) => found,
        Lookup::Nothing => return Err(plugins.nothing_at(&path)),
        Lookup::WrongMethod { allow } => return Ok(wrong_method(&call, &allow)),
    };
    let record = plugins.admit(&call.caller, &route)?;
    let most = plugins.limits.body_bytes.min(plugins.frame_limit(&record));
    let body = call.bytes(body, most, &plugins.limits).await?;
    let (http, payload) = request::of(&call, &route, params, body, &plugins.limits)?;
    let mut question = Question {
        target: Target::Plugin(route.plugin.clone()),
        capability: route.capability.clone(),
        streamed_payload: route.streaming.then(|| payload.clone()),
        payload,
        http: Some(http),
        lineage: call.lineage(plugins.limits.request_timeout),
    };
    let mut meter = plugins.metering.begin(&question.lineage, &question.capability, None);
    question.lineage.traceparent = meter.traceparent();
    meter.answered_by(&route.plugin);
    let form = if route.streaming { Form::MayStream } else { Form::Whole };
    meter.admit(&call, &question.payload, form)?;
    // Pinned here: the future is large, and passing it on would copy it.
    let answered = call.while_allowed(pin!(plugins.dispatcher.ask(question))).await;
    let answered = answered.inspect_err(|problem| meter.failed(problem))?;
    let asked = Asked::new(&call.parts, record.mounts().collect());
    let (response, dropped) = match answered.answer {
        Answer::Whole(data) => {
            meter.read_tokens(&data);
            let answer = answer::whole(&data, &asked).inspect_err(|problem| meter.failed(problem))?;
            meter.succeeded_with(answer.0.status().as_u16());
            answer
        }
        Answer::Stream(source) => {
            meter.streams();
            stream::response(*source, &asked, call.caller, meter).await?
        }
    };
    plugins.note_dropped(&record, &dropped);
    Ok(response)
}

impl PluginRoutes {
    /// Whether the caller may use a route: by the scope of its capability, or the one that the entry
    /// chose, and by the reach of its key. Answers whose route it is.
    fn admit(&self, caller: &Caller, route: &LiveRoute) -> Result<Arc<PluginRecord>, Problem> {
        let LiveRoute { plugin, capability, .. } = route;
        let record = self
            .registry
            .plugin(plugin.as_str())
            .ok_or_else(|| Problem::from(CallError::UnknownPlugin { plugin: plugin.clone() }))?;
        caller.require(scope_of(record.entry.scopes.get(capability), capability))?;
        if capability.is_for_the_host_alone() {
            let message = format!("`{capability}` is asked for by the host only");
            return Err(Problem::new(ErrorCode::Forbidden, message));
        }
        if !caller.rights().reach.has_plugin(plugin) {
            return Err(CallError::OutOfReach { what: format!("the plugin `{plugin}`") }.into());
        }
        Ok(record)
    }

    /// The largest frame that every instance of the plugin takes. The exact check is made when the frame
    /// is written: what is read here may still be too large with its envelope, and is refused then.
    fn frame_limit(&self, record: &PluginRecord) -> usize {
        let is_base = || record.instances.iter().any(|instance| instance.contract == Contract::Base);
        let chosen = record.entry.max_frame_bytes;
        chosen.unwrap_or_else(|| {
            if is_base() { self.frames.frame_to_base } else { self.frames.frame_to_extended }
        })
    }

    /// The plugin below whose paths a path is, if it starts on demand and has not said yet which routes it
    /// has. It is started for somebody who may use one of the capabilities that its entry lists.
    fn asleep_at(&self, path: &str, caller: &Caller) -> Option<Arc<PluginRecord>> {
        let record = self.owner_of(path).filter(|record| record.declared().is_none())?;
        let may_use = record.capabilities().iter().any(|capability| {
            let id = &capability.id;
            !id.is_for_the_host_alone() && caller.require(scope_of(record.entry.scopes.get(id), id)).is_ok()
        });
        let reaches = caller.rights().reach.has_plugin(&record.entry.name);
        (record.comes_on_demand() && may_use && reaches).then_some(record)
    }

    /// Below whose paths a path is.
    fn owner_of(&self, path: &str) -> Option<Arc<PluginRecord>> {
        let view = self.registry.view();
        let mut plugins = view.plugins();
        let owner = plugins.find(|record| {
            let is_below = |mount: String| {
                path.strip_prefix(mount.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            record.mounts().any(is_below)
        });
        owner.cloned()
    }

    /// Nothing is there; or nobody can know yet, since the plugin has not said which routes it has.
    fn nothing_at(&self, path: &str) -> Problem {
        let owner = self.owner_of(path);
        match owner.filter(|record| record.declared().is_none()) {
            None => Problem::new(ErrorCode::NotFound, format!("there is nothing at `{path}`")),
            Some(record) => {
                let (name, state) = (&record.entry.name, record.state());
                let next = match state {
                    State::Stopped | State::Failed => format!("start it with `bkg plugin start {name}`"),
                    _ => "try again".to_owned(),
                };
                let message = format!(
                    "plugin `{name}` is {}, and which routes it has is known once it has registered: {next}",
                    state.as_str()
                );
                Problem::new(ErrorCode::PluginUnavailable, message)
            }
        }
    }

    /// Counts what was left out of an answer, and tells the plugin's log of each header once.
    fn note_dropped(&self, record: &PluginRecord, dropped: &[String]) {
        for name in dropped {
            if record.route_faults.dropped_header(name) {
                let line = format!(
                    "the header `{}` of an answer to an HTTP request was left out: it is not one that plugins \
                     set, or its value cannot be sent; docs/protocol.md lists them",
                    name.escape_debug()
                );
                self.logs.plugin(&record.entry.name).append(NewLine::host(LogLevel::Warn, line));
            }
        }
    }
}

fn wrong_method(call: &Call, allow: &[Method]) -> Response {
    let (path, method) = (call.parts.uri.path(), &call.parts.method);
    let problem = Problem::new(ErrorCode::MethodNotAllowed, format!("`{path}` does not take {method}"));
    let mut response = problem.response(Dialect::Backplane);
    response.headers_mut().insert(header::ALLOW, allow_header(allow));
    response
}

fn allow_header(methods: &[Method]) -> HeaderValue {
    let text = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(",");
    HeaderValue::try_from(text).expect("methods are header values")
}
