//! What may stand after `login`, `key`, `user`, `role` and `session`, as types.
//!
//! As in `arguments`, parsing is all that happens here. The invariant: no secret can be an argument,
//! where every program of the machine could read it.

use bkg_protocol::Scope;
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand};

use super::limit_arguments::LimitArgument;

/// The longest that an old secret may live beside the new one, in seconds.
const LONGEST_GRACE: u64 = 86_400;

/// Who logs in.
#[derive(Debug, Args)]
pub(super) struct LoginRequest {
    /// The user; asked for where it is missing
    #[arg(long = "user", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    #[arg(required_if_eq("password_stdin", "true"))]
    pub(super) user: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(super) password_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key, and show its secret this once
    Create(NewKey),
    /// List keys
    List(OfUser),
    /// End a key for good
    Revoke {
        /// The id of the key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
    /// Give a key a new secret, and show it this once
    Rotate {
        /// The id of the key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        /// How long the old secret works beside the new one
        #[arg(long = "grace", value_name = "SECONDS", default_value_t = 0)]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=LONGEST_GRACE))]
        grace_seconds: u64,
    },
}

/// Those of one user, or all that the caller may see.
#[derive(Debug, Args)]
pub(super) struct OfUser {
    /// Only those of this user
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) user: Option<String>,
}

/// What a key is for.
#[derive(Debug, Args)]
pub(super) struct NewKey {
    /// Whose key [default: the caller's own]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) user: Option<String>,
    /// What the key may do, such as `llm.chat`, `llm.*` or `plugin:read`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub(super) scopes: Vec<Scope>,
    /// What it is called in lists
    #[arg(long, value_name = "TEXT")]
    pub(super) name: Option<String>,
    /// A model that it may use, or a pattern such as `llama-*`; may be given several times [default: all]
    #[arg(long = "model", value_name = "PATTERN")]
    pub(super) models: Vec<String>,
    /// A plugin that it may use, or a pattern; may be given several times [default: all]
    #[arg(long = "plugin", value_name = "PATTERN")]
    pub(super) plugins: Vec<String>,
    /// After how many days it ends [default: 90]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) expires_in_days: Option<u32>,
    /// It does not end by itself
    #[arg(long, conflicts_with = "expires_in_days")]
    pub(super) no_expiry: bool,
    /// How many requests it may make in a minute [default: any number]
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests_per_minute: Option<u64>,
    /// How many tokens of models it may use in a day [default: any number]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) tokens_per_day: Option<u64>,
    /// How much it may use, such as `tokens-per-minute=20000`, `concurrent-streams=2`, `budget=5/month`; may be
    /// given several times
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub(super) limits: Vec<LimitArgument>,
    /// Write down what is asked and answered with it, without secrets; for administrators
    #[arg(long)]
    pub(super) log_bodies: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// List users
    List,
    /// Make a user; without `--password-stdin` with a password that is shown this once
    Create(NewUser),
    /// Change the role or the name shown of a user, close the account, or open it again
    Update(UserChange),
    /// Change a password; one's own needs the old one
    Password {
        /// The user
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// Read the new password from standard input; one's own needs two lines, the old one first
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user with all keys and login sessions
    Delete(Deletion),
    /// Make this user an administrator who can log in again, with the root key; without
    /// `--password-stdin` with a password that is shown this once
    Reset {
        /// The user, who need not exist yet
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
}

/// Whom to make.
#[derive(Debug, Args)]
pub(super) struct NewUser {
    /// By what the user logs in
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) name: String,
    /// What the user may do: admin, operator, user, viewer, or a role of your own
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(super) role: String,
    /// What the user is called in lists
    #[arg(long, value_name = "TEXT")]
    pub(super) display_name: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(super) password_stdin: bool,
}

/// What to change about a user.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct UserChange {
    /// The user
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) name: String,
    /// What the user may do from now on
    #[arg(long, group = "change", value_parser = NonEmptyStringValueParser::new())]
    pub(super) role: Option<String>,
    /// What the user is called in lists
    #[arg(long, value_name = "TEXT", group = "change")]
    pub(super) display_name: Option<String>,
    /// Close the account: no login, and no key of the user opens anything
    #[arg(long, group = "change", conflicts_with = "enable")]
    pub(super) disable: bool,
    /// Open the account again
    #[arg(long, group = "change")]
    pub(super) enable: bool,
    /// How much all keys and logins of the user may use together, instead of what was said before, such as
    /// `tokens-per-day=1000000` or `budget=20/month`; may be given several times
    #[arg(long = "limit", value_name = "NAME=VALUE", group = "change", conflicts_with = "no_limits")]
    pub(super) limits: Vec<LimitArgument>,
    /// Lift all limits of the user
    #[arg(long, group = "change")]
    pub(super) no_limits: bool,
}

/// What to remove for good.
#[derive(Debug, Args)]
pub(super) struct Deletion {
    /// Its name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) name: String,
    /// Do not ask first; nobody is asked where standard input is no terminal
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum RoleCommand {
    /// List roles
    List,
    /// Make a role, or give it other scopes
    Set {
        /// The role
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// What users with this role may do; may be given several times
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<Scope>,
    },
    /// Remove a role that no user has
    Delete(Deletion),
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List login sessions
    List {
        #[command(flatten)]
        of: OfUser,
        /// Only those of the caller, which needs no scope
        #[arg(long, conflicts_with = "user")]
        own: bool,
    },
    /// End a login session
    Revoke {
        /// The id of the session
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        /// It is one of the caller's own, which needs no scope
        #[arg(long)]
        own: bool,
    },
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::error::ErrorKind;

    use super::super::arguments::{Arguments, Command};
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::parse(line.split_whitespace().map(OsString::from)).map(|arguments| arguments.command)
    }

    #[test]
    fn a_key_is_described_by_repeated_options() {
        let line = "bkg key create --user ada --scope llm.chat --scope plugin:read --model llama-* \
                    --plugin llmserver --expires-in-days 7 --requests-per-minute 60 --tokens-per-day 1000";
        let Command::Key(KeyCommand::Create(key)) = parse(line).unwrap() else {
            panic!("`key create` was asked for")
        };
        assert_eq!(key.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(), ["llm.chat", "plugin:read"]);
        assert_eq!((key.models, key.plugins), (vec!["llama-*".to_owned()], vec!["llmserver".to_owned()]));
        assert_eq!((key.expires_in_days, key.no_expiry), (Some(7), false));
        assert_eq!((key.requests_per_minute, key.tokens_per_day), (Some(60), Some(1000)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_the_door() {
        for (line, kind) in [
            ("bkg key create --user ada", ErrorKind::MissingRequiredArgument),
            ("bkg key create --scope *", ErrorKind::ValueValidation),
            ("bkg key create --scope admin --no-expiry --expires-in-days 1", ErrorKind::ArgumentConflict),
            ("bkg key create --scope admin --expires-in-days 0", ErrorKind::ValueValidation),
            ("bkg key rotate k --grace 86401", ErrorKind::ValueValidation),
            ("bkg user create ada", ErrorKind::MissingRequiredArgument),
            ("bkg user update ada", ErrorKind::MissingRequiredArgument),
            ("bkg user update ada --enable --disable", ErrorKind::ArgumentConflict),
            ("bkg role set writer", ErrorKind::MissingRequiredArgument),
            ("bkg session list --own --user ada", ErrorKind::ArgumentConflict),
            ("bkg login --password-stdin", ErrorKind::MissingRequiredArgument),
            ("bkg login --root", ErrorKind::ArgumentConflict),
            ("bkg logout --root", ErrorKind::ArgumentConflict),
            ("bkg serve --root", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
        for empty in ["key revoke", "user delete", "role delete", "session revoke"] {
            let words = ["bkg"].into_iter().chain(empty.split(' ')).chain([""]).map(OsString::from);
            let error = Arguments::parse(words).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue, "{empty}");
        }
    }

    #[test]
    fn no_password_can_be_an_argument() {
        for line in [
            "bkg login --user ada --password x",
            "bkg login ada",
            "bkg user password ada x",
            "bkg user create ada --role user --password x",
            "bkg user reset ada x",
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), ErrorKind::UnknownArgument, "{line}");
        }
    }
}
