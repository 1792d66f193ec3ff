//! What the routes of `accounts` take and answer, as types for the reference.
//!
//! Not what travels: the auth provider's answers are passed on as it wrote them, and it checks what it
//! is sent; `docs/auth-provider.md` is the contract that these types repeat. The invariant: what the
//! provider `apikeys` answers fits them, which the clients' tests check.

use bkg_protocol::Pattern;
use indexmap::IndexMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde_json::Value;

/// An object in which nothing stands that one could rely on.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
pub(super) struct Nothing(IndexMap<String, Value>);

/// Types that only say what travels: nobody makes a value of them.
macro_rules! shapes {
    ($($(#[$attribute:meta])* $name:ident { $($(#[$member:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[derive(JsonSchema)]
            #[schemars(rename_all = "camelCase")]
            #[allow(dead_code, reason = "a type for the reference alone")]
            $(#[$attribute])*
            pub(super) struct $name { $($(#[$member])* $field: $type,)* }
        )*
    };
}

/// A permission: `llm.chat`, `llm.*`, `plugin:read`, `metrics`, `admin`.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct Scope(
    #[schemars(
        length(max = 96),
        regex(
            pattern = r"^([a-z][a-z0-9_-]*(:[a-z][a-z0-9_-]*)?|[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)*(\.\*)?)$"
        )
    )]
    String,
);

/// A password that is to be chosen: 8 characters at least, and at most 72 bytes.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct ChosenPassword(#[schemars(length(min = 8, max = 72))] String);

/// The name of a user.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct UserName(#[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"))] String);

/// The name of a role.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
pub(super) struct RoleName(#[schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,63}$"))] String);

/// One line of text.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct Label(#[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{0,128}$"))] String);

shapes! {
    /// A user name and a password.
    #[schemars(deny_unknown_fields)]
    Credentials {
        /// The user's name.
        #[schemars(length(max = 1024))]
        username: String,
        /// The user's password, of 72 bytes at most.
        #[schemars(length(max = 72))]
        password: String,
    }

    /// A login, with its tokens.
    Login {
        /// The credential: sent as `Authorization: Bearer TOKEN`.
        token: String,
        /// Whose login.
        user: String,
        /// The user's id.
        user_id: String,
        /// The user's role.
        role: String,
        /// What the login opens.
        scopes: Vec<String>,
        /// The login's id.
        session_id: String,
        /// When the token ends, in milliseconds since 1970.
        #[schemars(rename = "expires_at")]
        expires_at: i64,
        /// What gets new tokens from `POST /auth/refresh`, once.
        refresh_token: String,
        /// When the refresh token ends, in milliseconds since 1970.
        #[schemars(rename = "refresh_expires_at")]
        refresh_expires_at: i64,
        /// Whether the password has to be changed before anything else.
        must_change_password: bool,
    }

    /// What gets new tokens.
    #[schemars(deny_unknown_fields)]
    Refresh {
        /// The refresh token; browsers have it in a cookie instead.
        #[schemars(length(max = 1024))]
        refresh_token: Option<String>,
    }

    /// Who the caller is: as the host sees it, and what the auth provider adds about a user.
    Me {
        /// What kind of credential was used.
        kind: CallerKind,
        /// The user's name; `root` for the root key.
        user: String,
        /// The user's id.
        #[schemars(skip_serializing_if = "Option::is_none")]
        user_id: Option<String>,
        /// The key that was used.
        #[schemars(skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
        /// The login that was used.
        #[schemars(skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// What the caller may do.
        scopes: Vec<String>,
        /// The models that the key reaches; absent, all.
        #[schemars(skip_serializing_if = "Option::is_none")]
        models: Option<Vec<Pattern>>,
        /// The plugins that the key reaches; absent, all.
        #[schemars(skip_serializing_if = "Option::is_none")]
        plugins: Option<Vec<Pattern>>,
        /// When the credential ends.
        #[schemars(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        /// Whether the password has to be changed before anything else.
        #[schemars(skip_serializing_if = "Option::is_none")]
        must_change_password: Option<bool>,
        /// The user's role.
        #[schemars(skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// How the user is called.
        #[schemars(skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// When the user was made.
        #[schemars(skip_serializing_if = "Option::is_none")]
        created_at: Option<Timestamp>,
        /// When the user logged in the last time.
        #[schemars(skip_serializing_if = "Option::is_none")]
        last_login_at: Option<Timestamp>,
    }

    /// A new name for oneself.
    #[schemars(deny_unknown_fields)]
    OwnName {
        /// How the user is called.
        display_name: Label,
    }

    /// One's own password, and the one that takes its place.
    #[schemars(deny_unknown_fields)]
    OwnPassword {
        /// The password so far.
        #[schemars(length(max = 72))]
        old_password: String,
        /// The password from now on.
        new_password: ChosenPassword,
    }

    /// Logins that have not ended.
    Sessions {
        /// The logins.
        sessions: Vec<Session>,
    }

    /// A login that has not ended.
    Session {
        /// Its id.
        id: String,
        /// Whose it is.
        user: String,
        /// The user's id.
        user_id: String,
        /// When it began.
        created_at: Timestamp,
        /// When it was used the last time.
        last_used_at: Option<Timestamp>,
        /// When it ends unless it is renewed.
        expires_at: Timestamp,
        /// Where it came from.
        client: Client,
    }

    /// Where a login came from.
    Client {
        /// Its address.
        address: Option<String>,
        /// What it said of itself.
        user_agent: Option<String>,
    }

    /// How much a key or a user may use; what is not said is not limited.
    #[schemars(deny_unknown_fields)]
    #[schemars(rename = "UseLimits")]
    Limits {
        /// Requests in any sixty seconds.
        #[schemars(range(min = 1), skip_serializing_if = "Option::is_none")]
        requests_per_minute: Option<u32>,
        /// Tokens of models in any sixty seconds.
        #[schemars(range(min = 1, max = 9007199254740991_i64), skip_serializing_if = "Option::is_none")]
        tokens_per_minute: Option<u64>,
        /// Tokens of models in a day of UTC.
        #[schemars(range(min = 1, max = 9007199254740991_i64), skip_serializing_if = "Option::is_none")]
        tokens_per_day: Option<u64>,
        /// Requests that plugins are answering at a time.
        #[schemars(range(min = 1), skip_serializing_if = "Option::is_none")]
        concurrent_requests: Option<u32>,
        /// Streams among them.
        #[schemars(range(min = 1), skip_serializing_if = "Option::is_none")]
        concurrent_streams: Option<u32>,
        /// Tokens that are set aside for an answer whose request does not say how long it may be.
        #[schemars(range(min = 1, max = 9007199254740991_i64), skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u64>,
        /// Money, by the host's prices.
        #[schemars(skip_serializing_if = "Option::is_none")]
        budget: Option<Budget>,
    }

    /// How much money may be spent in which time.
    #[schemars(deny_unknown_fields)]
    Budget {
        /// How much, with at most six decimal places.
        #[schemars(range(min = 0.000001, max = 1e9), extend("multipleOf" = 0.000001))]
        amount: f64,
        /// In which time of UTC.
        per: BudgetPeriod,
    }

    /// Keys, without their secrets.
    Keys {
        /// The keys.
        keys: Vec<Key>,
    }

    /// A key, without its secret.
    Key {
        /// Its id.
        id: String,
        /// What it is for.
        name: String,
        /// Whose it is.
        user: String,
        /// The user's id.
        user_id: String,
        /// What it may do, within what its user's role grants.
        scopes: Vec<String>,
        /// The models that it reaches; null, all.
        models: Option<Vec<Pattern>>,
        /// The plugins that it reaches; null, all.
        plugins: Option<Vec<Pattern>>,
        /// How much it may use.
        limits: Limits,
        /// Whether what is asked and answered with it is written down.
        log_bodies: bool,
        /// When it was made.
        created_at: Timestamp,
        /// Who made it.
        created_by: String,
        /// When it ends; null, never.
        expires_at: Option<Timestamp>,
        /// When it was used the last time.
        last_used_at: Option<Timestamp>,
        /// When it was revoked.
        revoked_at: Option<Timestamp>,
        /// Whether it opens anything.
        status: KeyStatus,
    }

    /// A key, with its secret.
    MadeKey {
        /// The key.
        #[schemars(flatten)]
        object: Key,
        /// The secret.
        key: String,
        /// The secret, once more.
        token: String,
    }

    /// A key that is to be made.
    #[schemars(deny_unknown_fields)]
    NewKey {
        /// What it is for.
        name: Option<Label>,
        /// Whose it is to be, by name or id; without it, the caller's.
        user: Option<String>,
        /// What it may do.
        #[schemars(length(min = 1, max = 64))]
        scopes: Vec<Scope>,
        /// The models that it reaches: names, or prefixes with `*`. Without it, all.
        #[schemars(length(max = 64))]
        models: Option<Vec<Pattern>>,
        /// The plugins that it reaches: names, or prefixes with `*`. Without it, all.
        #[schemars(length(max = 64))]
        plugins: Option<Vec<Pattern>>,
        /// How much it may use.
        limits: Option<Limits>,
        /// Whether what is asked and answered with it is written down, redacted: `admin` alone may ask for that.
        log_bodies: Option<bool>,
        /// When it ends; null, never. Without it, after 90 days.
        expires_at: Option<Timestamp>,
        /// After how many days it ends, instead.
        #[schemars(range(min = 1, max = 3650))]
        expires_in_days: Option<u64>,
    }

    /// How a key gets a new secret.
    #[schemars(deny_unknown_fields)]
    Rotation {
        /// How many seconds the old secret still works; 0 unless said.
        #[schemars(range(min = 0, max = 86400))]
        grace_seconds: Option<u64>,
    }

    /// Users.
    Users {
        /// The users.
        users: Vec<User>,
    }

    /// A user.
    User {
        /// Its id.
        id: String,
        /// Its name, which logs in.
        name: String,
        /// How the user is called.
        display_name: String,
        /// The user's role.
        role: String,
        /// What the role grants.
        scopes: Vec<String>,
        /// Whether nothing of the user's opens anything.
        disabled: bool,
        /// Whether the password has to be changed before anything else.
        must_change_password: bool,
        /// When the user was made.
        created_at: Timestamp,
        /// When the user logged in the last time.
        last_login_at: Option<Timestamp>,
        /// How much all keys and logins of the user may use together.
        limits: Limits,
        /// How many keys work or could.
        keys: u64,
        /// How many logins have not ended.
        sessions: u64,
    }

    /// A user, with the password that was made.
    UserWithPassword {
        /// The user.
        #[schemars(flatten)]
        object: User,
        /// The password, if one was made: shown this once.
        #[schemars(skip_serializing_if = "Option::is_none")]
        password: Option<String>,
    }

    /// A user that is to be made.
    #[schemars(deny_unknown_fields)]
    NewUser {
        /// Its name, which logs in; `root`, `host` and `nobody` are the host's own.
        name: UserName,
        /// Its role, which there is.
        role: RoleName,
        /// Its password, which has to be changed at the first login; without it, one is made.
        password: Option<ChosenPassword>,
        /// How the user is called.
        display_name: Option<Label>,
    }

    /// What of a user is to be different.
    #[schemars(deny_unknown_fields)]
    UserChange {
        /// Its role, which there is.
        role: Option<RoleName>,
        /// Whether nothing of the user's opens anything.
        disabled: Option<bool>,
        /// How the user is called.
        display_name: Option<Label>,
        /// How much all keys and logins of the user may use together, instead of what was said before; null
        /// lifts all limits.
        limits: Option<Limits>,
    }

    /// A password for a user.
    #[schemars(deny_unknown_fields)]
    NewPassword {
        /// The password from now on.
        new_password: ChosenPassword,
        /// The password so far: needed for one's own.
        old_password: Option<String>,
        /// The one login of the user that goes on.
        keep_session: Option<String>,
    }

    /// How an administrator gets back in.
    #[schemars(deny_unknown_fields)]
    #[schemars(rename = "UserReset")]
    Reset {
        /// The password from now on; without it, one is made.
        password: Option<ChosenPassword>,
    }

    /// Roles.
    Roles {
        /// The roles.
        roles: Vec<Role>,
    }

    /// A role.
    Role {
        /// Its name.
        name: String,
        /// What it grants.
        scopes: Vec<String>,
        /// Whether it cannot be deleted.
        built_in: bool,
        /// How many users have it.
        users: u64,
    }

    /// What a role is to grant.
    #[schemars(deny_unknown_fields)]
    RoleScopes {
        /// The scopes.
        #[schemars(length(min = 1, max = 64))]
        scopes: Vec<Scope>,
    }
}

/// What kind of credential a caller came with.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code, reason = "a type for the reference alone")]
enum CallerKind {
    /// The root key.
    Root,
    /// An API key.
    Key,
    /// A login.
    Session,
    /// What the auth provider takes besides.
    Other,
}

/// The time that a budget is for.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code, reason = "a type for the reference alone")]
enum BudgetPeriod {
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
}

/// Whether a key opens anything.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code, reason = "a type for the reference alone")]
enum KeyStatus {
    /// It does.
    Active,
    /// It has ended.
    Expired,
    /// Somebody ended it.
    Revoked,
    /// Its user is disabled.
    Disabled,
}
