//! Why a command was not carried out: one type for all commands, its text, its exit code.
//!
//! A message says what happened, to what, and what to do next. What the daemon answered keeps its
//! code and its request id, by which the daemon's log and the documentation can be searched.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::address::{Address, NoAddress};
use super::login_file::LoginFileError;
use super::output::harmless;
use super::secret::NoToken;
use crate::app::AppError;
use crate::backup::RestoreError;
use crate::config::ConfigError;
use crate::conformance::{KitError, TargetError};
use crate::scaffold::ScaffoldError;
use crate::store::StoreError;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The data directory has no `ports.json`.
    #[error("no daemon runs on `{dir}`: start one with `bkg serve --data-dir {dir}`", dir = data_dir.display())]
    NoDaemon { data_dir: PathBuf },
    /// There is a `ports.json`, but not the process that it names.
    #[error(
        "no daemon runs on `{dir}`: the last one (pid {pid}) died without cleaning up; start one with `bkg serve \
         --data-dir {dir}`, which does",
        dir = data_dir.display()
    )]
    DaemonDied { data_dir: PathBuf, pid: u32 },
    /// The process that `ports.json` names is there, but nothing listens.
    #[error(
        "the daemon of `{dir}` (pid {pid}) does not listen on port {port}: it is stopping, or it died and pid {pid} \
         is another program by now; `bkg serve --data-dir {dir}` starts one as soon as none is left",
        dir = data_dir.display()
    )]
    NotListening { data_dir: PathBuf, pid: u32, port: u16 },
    /// Somebody else listens where the daemon should.
    #[error(
        "port {port}, on which `{dir}` expects its daemon, belongs to a program of another user (uid {uid}): the \
         credential was not sent there; start the daemon with `bkg serve --data-dir {dir}`",
        dir = data_dir.display()
    )]
    ForeignListener { data_dir: PathBuf, port: u16, uid: u32 },
    /// A daemon is there, but not its credential.
    #[error(
        "`{}` is missing, and with it the credential: stop the daemon and start it again to get a new one, or log in \
         with `bkg login`",
        path.display()
    )]
    NoRootKey { path: PathBuf },
    /// The environment's credential is none.
    #[error("`BKG_API_KEY` holds no key: {source}; set it to a valid key, or unset it")]
    KeyVariable { source: NoToken },
    /// The environment's address is none.
    #[error("`BKG_URL` holds no address: {source}; set it to one, or unset it")]
    UrlVariable { source: NoAddress },
    /// Nothing says who asks a daemon elsewhere.
    #[error(
        "nothing says who you are to the daemon at `{address}`: set `BKG_API_KEY` to a key, or run `bkg login`"
    )]
    NoCredential { address: Address },
    /// Something that does not leave the daemon's machine.
    #[error(
        "{what} can only be had on the daemon's own machine: run this there with `--data-dir DIR`, not with the \
         address `{address}`"
    )]
    OnlyThere { what: &'static str, address: Address },
    /// The certificates that are to vouch for a daemon.
    #[error("the certificates in `{}` cannot be used: {reason}", path.display())]
    Authorities { path: PathBuf, reason: String },
    /// Nobody answers at an address.
    #[error(
        "the daemon at `{address}` cannot be reached: {reason}; check `--url` or `BKG_URL`, and that it runs"
    )]
    Unreachable { address: Address, reason: String },
    /// Something answers at an address, but nobody vouches for it.
    #[error("the certificate of `{address}` is not trusted, and nothing was sent: {reason}; {next}")]
    Untrusted { address: Address, reason: String, next: &'static str },
    /// The saved logins.
    #[error(transparent)]
    LoginFile(#[from] LoginFileError),
    /// The login is forgotten here, but the daemon does not know.
    #[error(
        "the saved login of `{user}` is removed, but its session may live until {until}: {reason}; `bkg session list` \
         shows it, and `bkg session revoke ID` ends it"
    )]
    SessionLeft { user: String, until: String, reason: Box<CliError> },
    /// Nobody can be asked.
    #[error("there is no terminal to ask for {what} on: use {instead}")]
    NoTerminal { what: &'static str, instead: &'static str },
    /// What was asked for did not come.
    #[error("{what} cannot be read: {source}")]
    Asking { what: &'static str, source: io::Error },
    /// A new password, and what was typed to make sure.
    #[error("the two passwords differ: nothing was changed; try again")]
    PasswordsDiffer,
    /// A file of the data directory.
    #[error("{source}{}", hint(source))]
    Store {
        #[from]
        source: StoreError,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the configuration depends on.
    #[error("the {what} cannot be found out: {source}")]
    Surroundings { what: &'static str, source: io::Error },
    /// The folder of a new plugin.
    #[error(transparent)]
    Scaffold(#[from] ScaffoldError),
    /// The daemon could not start.
    #[error(transparent)]
    App(#[from] AppError),
    /// A backup could not be put back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What is to be checked.
    #[error(transparent)]
    CheckTarget(#[from] TargetError),
    /// A check that could not be carried out, which says nothing about the plugin.
    #[error("the check failed, and says nothing about the plugin: {0}")]
    Check(#[from] KitError),
    /// Ctrl-C.
    #[error("stopped before its end; nothing that was started is left")]
    Interrupted,
    /// The daemon answered with an error.
    #[error("{0}")]
    Refused(Refusal),
    /// The daemon answered something that this version does not know.
    #[error(
        "the daemon's answer to {request} cannot be read: {reason}; is it of another version than this program?"
    )]
    Unreadable { request: String, reason: String },
    /// No answer.
    #[error("the daemon did not answer {request} within {} s: look at its log", within.as_secs())]
    Silent { request: String, within: Duration },
    /// The connection broke.
    #[error("the connection to the daemon broke at {request}: {reason}")]
    Broken { request: String, reason: String },
    /// The command line is well-formed, but what it asks for cannot be.
    #[error("{message}")]
    Usage { message: String },
    /// An entry has nothing there.
    #[error("the entry of {plugin} has no `{path}`: `bkg config get {plugin}` shows all that it has")]
    NoSuchValue { plugin: String, path: String },
    /// A secret where every program of the machine could read it.
    #[error(
        "`{path}` is or has a secret, and an argument is no place for one: `--secret PATH` asks for it, and `--file` \
         reads it; nothing was changed, but what was given is in the shell's history"
    )]
    SecretArgument { path: String },
    /// The editor.
    #[error("the editor `{editor}` failed ({reason}): nothing was changed; VISUAL or EDITOR names another")]
    Editor { editor: String, reason: String },
    /// A file that a command was to read or write.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// Nobody to talk with.
    #[error(
        "there is no model to talk with: `bkg plugin list` shows which plugins serve, and `bkg whoami` what you may use"
    )]
    NoModel,
    /// An answer that began and did not end as it should.
    #[error("the answer broke off: {reason}; what came before it is not the whole answer")]
    BrokenOff { reason: String },
    /// The payload on the command line, or on standard input.
    #[error("the payload is not JSON: {reason}")]
    Payload { reason: String },
    /// Standard input.
    #[error("the payload cannot be read from standard input: {source}")]
    Input { source: io::Error },
    /// Standard output.
    #[error("the output cannot be written: {source}")]
    Output { source: io::Error },
    /// Whoever read the output has seen enough.
    #[error("the reader of the output went away")]
    ReaderGone,
}

/// An error that the daemon answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// What happened, in the daemon's words.
    pub(super) message: String,
    /// The code of the error table; missing if the answer was not one of the daemon's own.
    pub(super) code: Option<String>,
    /// The plugin's own word, where the error table has none for it.
    pub(super) plugin_code: Option<String>,
    /// The member of the request that it is about.
    pub(super) param: Option<String>,
    /// The `x-request-id` of the answer.
    pub(super) request_id: Option<String>,
    /// What is wrong, place by place, where the daemon says so.
    pub(super) details: Vec<Detail>,
}

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Detail {
    /// Where, as a JSON Pointer (RFC 6901).
    pub(super) path: String,
    /// What, in the daemon's words.
    pub(super) message: String,
}

impl Refusal {
    /// Reads an answer that is no success.
    pub(super) fn read(status: u16, request_id: Option<String>, body: &str) -> Self {
        let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let text = |member: &str| body["error"][member].as_str().map(str::to_owned);
        let message =
            text("message").unwrap_or_else(|| format!("the daemon answered {status} and did not say why"));
        let plugin_code = body["error"]["details"]["pluginCode"].as_str().map(str::to_owned);
        let details = serde_json::from_value(body["error"]["details"].clone()).unwrap_or_default();
        Self { status, message, code: text("code"), plugin_code, param: text("param"), request_id, details }
    }

    /// The same, with the next step behind the daemon's words.
    pub(super) fn advised(mut self, advice: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(advice);
        self
    }

    /// Whether it says that the credential is not good, and not that the daemon cannot tell just now.
    pub(super) fn is_about_the_credential(&self) -> bool {
        matches!(self.status, 400..500) && self.status != 429
    }
}

fn hint(error: &StoreError) -> &'static str {
    match error {
        StoreError::Disk { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "; use the account that the daemon runs under, or another credential (`bkg login`)"
        }
        _ => "",
    }
}

impl CliError {
    /// A certificate that does not show whose it is.
    pub(super) fn untrusted(address: Address, fault: &rustls::CertificateError) -> Self {
        use rustls::CertificateError as Fault;
        let text = fault.to_string();
        let (reason, next) = match fault {
            Fault::UnknownIssuer => (
                "no authority that is known vouches for it".to_owned(),
                "`--ca FILE` names another authority",
            ),
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
                (text, "use the name that the certificate is for in `--url`")
            }
            Fault::Expired | Fault::ExpiredContext { .. } => (text, "the daemon needs a new certificate"),
            // The library has no variant of its own for it.
            _ if text.contains("CaUsedAsEndEntity") => (
                "it is that of an authority, which no daemon may have as its own".to_owned(),
                "make one with `basicConstraints=CA:FALSE`",
            ),
            _ => (text, "`--ca FILE` names the authority that vouches for it"),
        };
        Self::Untrusted { address, reason, next }
    }

    /// What became of writing to standard output.
    pub(super) fn of_output(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Output { source },
        }
    }

    /// The exit code, as the table of the module's documentation lists it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Payload { .. }
            | Self::Usage { .. }
            | Self::SecretArgument { .. }
            | Self::KeyVariable { .. }
            | Self::UrlVariable { .. }
            | Self::OnlyThere { .. }
            | Self::NoTerminal { .. }
            | Self::CheckTarget(_)
            | Self::Scaffold(ScaffoldError::Digit(_) | ScaffoldError::Family(_)) => 2,
            Self::Check(_) => 3,
            Self::Interrupted => 130,
            Self::Config(_) => 5,
            Self::Store { source } if source.is_about_damage() => 6,
            Self::Restore(RestoreError::Store(StoreError::Locked { .. })) => 3,
            Self::Restore(RestoreError::Store(error)) if error.is_about_damage() => 6,
            Self::LoginFile(LoginFileError::Damaged { .. }) => 6,
            Self::App(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// The error for people, or as one JSON object.
    pub(super) fn render(&self, as_json: bool) -> String {
        let (code, request_id) = match self {
            Self::Refused(refusal) => (refusal.code.as_deref(), refusal.request_id.as_deref()),
            _ => (None, None),
        };
        let details = match self {
            Self::Refused(refusal) => refusal.details.as_slice(),
            _ => &[],
        };
        let message = self.to_string();
        if as_json {
            let mut error = json!({ "message": message, "code": code, "requestId": request_id });
            if !details.is_empty() {
                error["details"] = json!(details);
            }
            return format!("{}\n", json!({ "error": error }));
        }
        let mut text = format!("error: {}\n", harmless(&message));
        for Detail { path, message } in details {
            let path = if path.is_empty() { "the whole" } else { path };
            text.push_str(&format!("       {}: {}\n", harmless(path), harmless(message)));
        }
        let facts =
            [code.map(|code| format!("code {code}")), request_id.map(|id| format!("x-request-id {id}"))];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            text.push_str(&format!("       {}\n", harmless(&facts.join(", "))));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_daemon_shows_message_then_code_and_request() {
        let body =
            r#"{"error":{"message":"there is no plugin `x`","type":"t","param":null,"code":"not_found"}}"#;
        let error = CliError::Refused(Refusal::read(404, Some("0199".into()), body));
        assert_eq!(
            error.render(false),
            "error: there is no plugin `x`\n       code not_found, x-request-id 0199\n"
        );
        assert_eq!(
            error.render(true),
            "{\"error\":{\"message\":\"there is no plugin `x`\",\"code\":\"not_found\",\"requestId\":\"0199\"}}\n"
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn every_place_that_is_wrong_is_told() {
        let body = r#"{"error":{"message":"the entry is not valid","code":"invalid_config","details":
            [{"path":"/settings/answer","message":"`x` is no number"},{"path":"","message":"a\u001b"}]}}"#;
        let error = CliError::Refused(Refusal::read(422, None, body));
        assert_eq!(
            error.render(false),
            "error: the entry is not valid\n       /settings/answer: `x` is no number\n       the whole: a\\u{1b}\n       \
             code invalid_config\n"
        );
        let json: serde_json::Value = serde_json::from_str(&error.render(true)).unwrap();
        assert_eq!(json["error"]["details"][0]["path"], "/settings/answer");
    }

    #[test]
    fn an_answer_that_is_not_the_daemons_own_is_told_as_it_is() {
        let refusal = Refusal::read(502, None, "<html>");
        assert_eq!(refusal.message, "the daemon answered 502 and did not say why");
        assert_eq!(
            CliError::Refused(refusal).render(false),
            "error: the daemon answered 502 and did not say why\n"
        );
    }

    #[test]
    fn an_answer_cannot_steer_the_terminal() {
        let body = r#"{"error":{"message":"a\u001b[2Jb","code":"internal"}}"#;
        let text = CliError::Refused(Refusal::read(500, None, body)).render(false);
        assert_eq!(text, "error: a\\u{1b}[2Jb\n       code internal\n");
    }

    #[test]
    fn exit_codes_are_those_of_the_table() {
        let path = PathBuf::from("/d/root.key");
        let denied = |kind: io::ErrorKind| StoreError::Disk {
            action: "read",
            path: path.clone(),
            source: kind.into(),
        };
        for (error, code) in [
            (CliError::NoDaemon { data_dir: "/d".into() }, 1),
            (CliError::Payload { reason: "x".into() }, 2),
            (AppError::Store(StoreError::Locked { path: path.clone(), pid: Some(7) }).into(), 3),
            (AppError::PortTaken { port: 1, what: "HTTP".to_owned(), flag: "--api-port" }.into(), 4),
            (ConfigError::Conflict { key: "bus.port", value: "1".into(), reason: "x".into() }.into(), 5),
            (StoreError::RootKeyDamaged { path: path.clone() }.into(), 6),
            (denied(io::ErrorKind::PermissionDenied).into(), 1),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
        assert!(
            CliError::from(denied(io::ErrorKind::PermissionDenied))
                .to_string()
                .contains("; use the account that the daemon runs under, ")
        );
        assert!(!CliError::from(denied(io::ErrorKind::Other)).to_string().contains("account"));
    }
}
