//! The entry of a plugin over HTTP: read, edited, compared, returned.
//!
//! Not what an edit means: `entries` knows that. Here it is read from the request, and the caller is
//! asked for the right that it takes, which can be more than managing plugins.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::ErrorCode;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::task::JoinError;

use super::Admin;
use crate::config::patch::Change;
use crate::entries::{
    Applied, Apply, Edit, EntriesError, EntryView, Imported, MirrorView, Outcome, RevisionView, Right,
    WholeRevision,
};
use crate::error::Problem;
use crate::supervisor::UnknownPlugin;
use crate::web::{Access, Call, Endpoint, Routes, Tag, members};

/// The longest note on a revision, in characters.
const LONGEST_NOTE: usize = 500;
/// How many revisions one reading gives unless it says otherwise.
const LISTED: u32 = 20;

/// Which places go back to what the files say.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EntryReset")]
pub(super) struct Reset {
    /// JSON Pointers into the entry, such as `/settings/greeting`.
    paths: Vec<String>,
}

/// Which revision is to hold again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EntryReturn")]
pub(super) struct Return {
    /// Its number; 0 stands for the plugin's files alone. Unless said, what held before the newest.
    #[serde(default)]
    revision: Option<u64>,
}

/// What differs between two revisions.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Comparison {
    /// The first revision; 0 stands for the plugin's files alone.
    from: u64,
    /// The second one.
    to: u64,
    /// What the second has otherwise; secrets read as `{"$secret": true}`.
    changes: Vec<Change>,
}

/// Adds the routes of entries.
pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const READ: Access = Access::Scope("plugin:read");
    const MANAGE: Access = Access::Scope("plugin:manage");
    let tag = Tag::Configuration;
    let plugin = |endpoint: Endpoint| {
        endpoint.path::<String>("name", super::PLUGIN_NAME).errors(&[ErrorCode::NotFound])
    };
    let entry = Endpoint::get("/admin/plugins/{name}/config", READ)
        .summary(tag, "Read the entry of a plugin")
        .answers::<EntryView>(200, "The entry; its `ETag` is the revision, for `If-Match`.");
    let changes = |endpoint: Endpoint| {
        plugin(endpoint)
            .header::<Revision>(
                "if-match",
                "The revision that the change was made for, as in `ETag`; `*` for any.",
            )
            .query::<Moment>("apply", "When it takes effect; `now` unless said.")
            .query::<bool>(
                "dryRun",
                "Only say what would become of it, having asked the plugin where it can be asked.",
            )
            .query::<String>("note", "What the author says about it, in at most 500 characters.")
            .answers::<Outcome>(200, "It is saved and, where the plugin runs, in force.")
            .answers::<Outcome>(202, "It is saved, and takes effect at the next start.")
            .errors(&[
                ErrorCode::ReauthRequired,
                ErrorCode::Conflict,
                ErrorCode::InvalidConfig,
                ErrorCode::PluginError,
                ErrorCode::InsufficientStorage,
            ])
    };
    const RIGHTS: &str = "Settings and how the plugin is run take `plugin:manage`, what it may do takes `admin`, and what is \
        executed (`entrypoint`, `args`, `env`, `prepare`) besides a login of the last five minutes.";
    let patch = changes(
        Endpoint::post("/admin/plugins/{name}/config", MANAGE)
            .summary(tag, "Change the entry of a plugin")
            .describe("The body is a JSON Merge Patch (RFC 7396) of the effective entry: `null` takes a member away.")
            .takes::<Map<String, Value>>(),
    );
    let replace = changes(
        Endpoint::put("/admin/plugins/{name}/config", MANAGE)
            .summary(tag, "Replace the entry of a plugin")
            .describe(RIGHTS)
            .takes::<Map<String, Value>>(),
    );
    let reset = changes(
        Endpoint::post("/admin/plugins/{name}/config/reset", MANAGE)
            .summary(tag, "Have places of the entry be what the plugin's files say")
            .takes::<Reset>(),
    );
    let go_back = changes(
        Endpoint::post("/admin/plugins/{name}/config/return", MANAGE)
            .summary(tag, "Have an earlier revision hold again")
            .takes::<Return>(),
    );
    let diff = Endpoint::get("/admin/plugins/{name}/config/diff", READ)
        .summary(tag, "Compare two revisions")
        .query::<u64>("from", "The first; the one before `to` unless said, 0 for the files alone.")
        .query::<u64>("to", "The second; the newest unless said.")
        .answers::<Comparison>(200, "What differs.");
    let revisions = Endpoint::get("/admin/plugins/{name}/config/revisions", READ)
        .summary(tag, "List the revisions of an entry")
        .query::<u64>("before", "Only those before the one with this number.")
        .query::<u64>("limit", "How many, at most 100; 20 unless said.")
        .answers::<Vec<RevisionView>>(200, "The revisions, newest first.");
    let revision = Endpoint::get("/admin/plugins/{name}/config/revisions/{revision}", READ)
        .summary(tag, "Show a revision")
        .path::<String>("name", super::PLUGIN_NAME)
        .path::<u64>("revision", "Its number.")
        .answers::<WholeRevision>(200, "The revision.")
        .errors(&[ErrorCode::NotFound]);
    let mirror = Endpoint::get("/admin/mirror", READ)
        .summary(tag, "Look at the mirror of entries")
        .describe("`plugins.json` in the data directory shows the entries in effect. What somebody wrote into it by hand takes effect when it is imported.")
        .answers::<MirrorView>(200, "What is there, and what an import would change.");
    let import = Endpoint::post("/admin/mirror/import", MANAGE)
        .summary(tag, "Import what was written into the mirror by hand")
        .answers::<MirrorImport>(200, "What became of each plugin.")
        .errors(&[ErrorCode::ReauthRequired, ErrorCode::InvalidConfig, ErrorCode::InsufficientStorage]);
    let give_up = Endpoint::post("/admin/mirror/discard", MANAGE)
        .summary(tag, "Move what was written into the mirror by hand aside")
        .answers::<MirrorDiscard>(200, "Where it is now.");
    routes
        .add(plugin(entry), admin, read)
        .add(patch, admin, self::patch)
        .add(replace, admin, self::replace)
        .add(reset, admin, self::reset)
        .add(go_back, admin, self::go_back)
        .add(plugin(diff), admin, self::diff)
        .add(plugin(revisions), admin, self::revisions)
        .add(revision, admin, self::revision)
        .add(mirror, admin, self::mirror)
        .add(import, admin, self::import)
        .add(give_up, admin, self::give_up)
}

/// What became of an import.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MirrorImport {
    /// Plugin by plugin, those that were changed.
    imported: Vec<Imported>,
    /// Where what was written by hand is now.
    kept: Option<String>,
}

/// What became of an edit that was given up.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MirrorDiscard {
    /// Where what was written by hand is now; absent if there was nothing.
    kept: Option<String>,
}

/// A revision, as `ETag` has it.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct Revision(#[schemars(regex(pattern = r#"^(\*|(W/)?"?[0-9]{1,15}"?)$"#))] String);

/// When a change takes effect.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum Moment {
    Now,
    Later,
}

pub(super) async fn read(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let view = admin.entries.read(&name(&call)?)?;
    let tag = entity_tag(view.revision);
    Ok(([(ETAG, tag)], axum::Json(view)).into_response())
}

pub(super) async fn patch(admin: Arc<Admin>, call: Call, body: Body) -> Result<Response, Problem> {
    let body: Map<String, Value> = members(&call.json(body, &admin.config.http).await?)?;
    let edit = with_name(&call, body, Edit::Patch)?;
    change(admin, call, edit).await
}

pub(super) async fn replace(admin: Arc<Admin>, call: Call, body: Body) -> Result<Response, Problem> {
    let body: Map<String, Value> = members(&call.json(body, &admin.config.http).await?)?;
    let edit = with_name(&call, body, Edit::Whole)?;
    change(admin, call, edit).await
}

pub(super) async fn reset(admin: Arc<Admin>, call: Call, body: Body) -> Result<Response, Problem> {
    let Reset { paths } = members(&call.json(body, &admin.config.http).await?)?;
    change(admin, call, Edit::Reset(paths)).await
}

pub(super) async fn go_back(admin: Arc<Admin>, call: Call, body: Body) -> Result<Response, Problem> {
    let Return { revision } = members(&call.json(body, &admin.config.http).await?)?;
    let edit = revision.map_or(Edit::TakeBack, Edit::Return);
    change(admin, call, edit).await
}

pub(super) async fn diff(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = name(&call)?;
    let to = match super::logs::number(&call, "to")? {
        Some(to) => to,
        None => admin.entries.read(&name)?.revision,
    };
    let from = super::logs::number(&call, "from")?.unwrap_or(to.saturating_sub(1));
    let changes = admin.entries.compare(&name, from, to).await?;
    Ok(axum::Json(Comparison { from, to, changes }).into_response())
}

pub(super) async fn revisions(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let before = super::logs::number(&call, "before")?;
    let limit = super::logs::number(&call, "limit")?
        .map_or(LISTED, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let revisions = admin.entries.list(&name(&call)?, before, limit).await?;
    Ok(axum::Json(revisions).into_response())
}

pub(super) async fn revision(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let text = call.param("revision")?;
    let number = text.parse().map_err(|_| {
        Problem::invalid(format!("`{text}` is no revision: use a whole number")).param("revision")
    })?;
    let revision = admin.entries.revision(&name(&call)?, number).await?;
    Ok(axum::Json(revision).into_response())
}

pub(super) async fn mirror(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    require_all_plugins(&call)?;
    Ok(axum::Json(admin.entries.mirror().await?).into_response())
}

pub(super) async fn import(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let entries = Arc::clone(&admin.entries);
    ended(entries.carry_out(async move { take_mirror(&admin, &call).await }).await)
}

async fn take_mirror(admin: &Admin, call: &Call) -> Result<Response, Problem> {
    require_all_plugins(call)?;
    let import = admin.entries.import().await?;
    require(call, import.right())?;
    let action = |plugin: &str, changes: &[Change]| {
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        call.action("config.import", format!("plugin {plugin}"), json!({ "paths": paths }))
    };
    let imported = import.commit("imported from plugins.json", action).await;
    let kept = admin.entries.give_up_mirror_edit().await?;
    Ok(axum::Json(MirrorImport { imported, kept }).into_response())
}

pub(super) async fn give_up(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    require_all_plugins(&call)?;
    let kept = admin.entries.give_up_mirror_edit().await?;
    Ok(axum::Json(MirrorDiscard { kept }).into_response())
}

/// Makes an edit, to its end: a client that leaves does not stop it half way.
async fn change(admin: Arc<Admin>, call: Call, edit: Edit) -> Result<Response, Problem> {
    let entries = Arc::clone(&admin.entries);
    ended(entries.carry_out(async move { edit_entry(&admin, &call, edit).await }).await)
}

fn ended(edit: Result<Result<Response, Problem>, JoinError>) -> Result<Response, Problem> {
    edit.unwrap_or_else(|panic| {
        Err(Problem::new(ErrorCode::Internal, format!("the host failed at the edit: {panic}")))
    })
}

/// Drafts an edit, asks for the right that it takes, and brings it to life.
async fn edit_entry(admin: &Admin, call: &Call, edit: Edit) -> Result<Response, Problem> {
    let name = name(call)?;
    let apply = match call.query("apply")?.as_deref() {
        None | Some("now") => Apply::Now,
        Some("later") => Apply::Later,
        Some(other) => {
            let message = format!("`apply` is `{other}`: use `now` or `later`");
            return Err(Problem::invalid(message).param("apply"));
        }
    };
    let dry_run = match call.query("dryRun")?.as_deref() {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => {
            let message = format!("`dryRun` is `{other}`: use `true` or `false`");
            return Err(Problem::invalid(message).param("dryRun"));
        }
    };
    let note = call.query("note")?.unwrap_or_default();
    if note.chars().count() > LONGEST_NOTE {
        let message = format!("`note` is longer than {LONGEST_NOTE} characters");
        return Err(Problem::invalid(message).param("note"));
    }
    let editing = admin.entries.edit(&name, expected_revision(call)?).await?;
    let action =
        if matches!(edit, Edit::Return(_) | Edit::TakeBack) { "config.return" } else { "config.save" };
    let draft = editing.draft(edit).await?;
    require(call, draft.right)?;
    if dry_run {
        return Ok(axum::Json(editing.rehearse(draft, apply).await?).into_response());
    }
    let paths: Vec<&str> = draft.changes.iter().map(|change| change.path.as_str()).collect();
    let detail = json!({ "paths": paths, "note": note });
    let action = call.action(action, format!("plugin {name}"), detail);
    let outcome = editing.commit(draft, apply, note, action).await?;
    let status = match outcome.applied {
        Applied::Restarting | Applied::Later => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let tag = entity_tag(outcome.revision);
    Ok((status, [(ETAG, tag)], axum::Json(outcome)).into_response())
}

/// The name of the plugin in the path, if the caller may know of it.
fn name(call: &Call) -> Result<String, Problem> {
    let name = call.param("name")?;
    let reach = &call.caller.rights().reach;
    match name.parse() {
        // `entries` knows those too that cannot run with what was saved for them.
        Ok(plugin) if reach.has_plugin(&plugin) => Ok(name),
        _ => Err(UnknownPlugin(name).into()),
    }
}

/// Refuses a caller whose key was narrowed to some plugins: the mirror is about all of them.
fn require_all_plugins(call: &Call) -> Result<(), Problem> {
    if call.caller.rights().reach.plugins.is_none() {
        return Ok(());
    }
    let message = "the mirror shows every plugin and this key was narrowed to some: use one that was not";
    Err(Problem::new(ErrorCode::Forbidden, message))
}

/// Refuses a caller who has not the right that an edit takes.
fn require(call: &Call, right: Right) -> Result<(), Problem> {
    match right {
        Right::Manage => {}
        Right::Grant => call.caller.require("admin")?,
        Right::RunCode => {
            call.caller.require("admin")?;
            call.caller.require_recent_login(jiff::Timestamp::now())?;
        }
    }
    Ok(())
}

/// The edit, if the entry in the body is of the plugin in the path.
fn with_name(
    call: &Call,
    mut body: Map<String, Value>,
    edit: impl FnOnce(Map<String, Value>) -> Edit,
) -> Result<Edit, Problem> {
    let name = call.param("name")?;
    match body.get("name") {
        None => {}
        Some(named) if named == name.as_str() => {}
        Some(named) => {
            let message = format!("the entry is named {named}, but this is the plugin `{name}`");
            return Err(Problem::invalid(message).param("name"));
        }
    }
    body.insert("name".to_owned(), Value::from(name));
    Ok(edit(body))
}

/// The revision in `If-Match`; `*` stands for any (RFC 9110, section 13.1.1).
pub(super) fn expected_revision(call: &Call) -> Result<Option<u64>, Problem> {
    let Some(header) = call.parts.headers.get(IF_MATCH) else { return Ok(None) };
    let text = header.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix("W/").unwrap_or(text).trim_matches('"').parse();
    number.map(Some).map_err(|_| {
        Problem::invalid(format!(
            "`If-Match` is `{text}`: send the `ETag` of what you read, such as `\"3\"`"
        ))
        .param("If-Match")
    })
}

pub(super) fn entity_tag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).expect("a number in quotes is a header value")
}

impl From<EntriesError> for Problem {
    fn from(error: EntriesError) -> Self {
        let message = error.to_string();
        match error {
            EntriesError::Unknown(_) | EntriesError::NoRevision { .. } => {
                Self::new(ErrorCode::NotFound, message)
            }
            EntriesError::Conflict { .. } => Self::new(ErrorCode::Conflict, message),
            // Nothing has changed, since what was asked for does not work.
            EntriesError::NotImported(_) | EntriesError::RolledBack { .. } => {
                Self::new(ErrorCode::InvalidConfig, message)
            }
            EntriesError::Invalid { violations, .. } => {
                Self::new(ErrorCode::InvalidConfig, message).with_details(&violations)
            }
            EntriesError::NotTaken { .. }
            | EntriesError::DoesNotRun { .. }
            | EntriesError::NotRolledBack { .. } => Self::new(ErrorCode::PluginError, message),
            EntriesError::Sealed { .. } => Self::new(ErrorCode::InvalidConfig, message),
            EntriesError::Store(error) => error.into(),
        }
    }
}
