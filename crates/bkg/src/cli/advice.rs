//! What to do after the daemon refused a request: one half sentence behind its own words.
//!
//! Not what happened: the daemon says that. The invariant: nothing that is advised is done by itself.

use super::credential::Origin;

/// What is known about a refusal beside its text.
pub(super) struct Circumstances<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// The code of the error table, if there was one.
    pub(super) code: Option<&'a str>,
    /// The member of the request that it is about, if it is about one.
    pub(super) param: Option<&'a str>,
    /// After how many seconds the daemon wants to be asked again.
    pub(super) retry_after: Option<u64>,
    /// Whence the credential was that the request carried; logging in needs none.
    pub(super) origin: Option<&'a Origin>,
}

/// The next step, if there is one that the daemon cannot know.
pub(super) fn advice(circumstances: &Circumstances<'_>) -> Option<String> {
    let Circumstances { status, code, param, retry_after, origin } = circumstances;
    match (status, *code) {
        // A user's keys are the user's own unless another is named; the root key belongs to no user.
        (400, _) if *param == Some("user") => match origin {
            Some(Origin::RootKey { .. }) => Some("`--user NAME` says whose".to_owned()),
            _ => None,
        },
        (401, _) => origin.map(not_valid),
        (403, Some("reauth_required")) => origin.and_then(too_old).map(str::to_owned),
        // An old password that is wrong is no matter of scopes.
        (403, _) if *param == Some("oldPassword") => None,
        (403, _) => match origin {
            Some(Origin::RootKey { .. }) | None => None,
            Some(_) => Some("`bkg whoami` shows what you may do; `--root` uses the root key".to_owned()),
        },
        (503, Some("not_initialised")) => {
            Some("`bkg user reset NAME` makes an administrator with the root key".to_owned())
        }
        (503, Some("plugin_unavailable")) => {
            Some("`bkg --root plugin list` shows which plugins do not serve".to_owned())
        }
        // Budgets come back at a moment that the daemon names.
        (429, Some("quota_exceeded")) => None,
        (429 | 503, _) if retry_after.is_some() => {
            // A longer wait is cut to what clients obey; the daemon's own words have the whole of it.
            retry_after.map(|seconds| format!("try again in {seconds} s at the earliest"))
        }
        (429 | 503, _) => Some("try again later".to_owned()),
        _ => None,
    }
}

/// After the login of this user was refused, or its renewal.
pub(super) fn saved_login_refused(user: &str) -> String {
    format!("the saved login of `{user}` is refused: `bkg login` makes a new one, `bkg logout` removes it")
}

fn not_valid(origin: &Origin) -> String {
    match origin {
        Origin::Environment => {
            "it came from the variable `BKG_API_KEY`: set it to a valid key, or unset it".to_owned()
        }
        Origin::Login { user, .. } => saved_login_refused(user),
        Origin::RootKey { .. } => "is `root.key` newer than the daemon? then restart the daemon".to_owned(),
    }
}

fn too_old(origin: &Origin) -> Option<&'static str> {
    match origin {
        Origin::Environment => {
            Some("a key cannot do this: unset `BKG_API_KEY` and run `bkg login`, or use `--root`")
        }
        Origin::Login { .. } => Some("run `bkg login` again, or use `--root`"),
        Origin::RootKey { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_depends_on_what_was_sent() {
        let login = Origin::Login { user: "ada".into(), file: "/l".into() };
        let root = Origin::RootKey { file: "/d/root.key".into() };
        let environment = Origin::Environment;
        for (status, code, retry_after, origin, expected) in [
            (401, None, None, None, ""),
            (401, None, None, Some(&root), "is `root.key` newer than the daemon? then restart the daemon"),
            (
                401,
                None,
                None,
                Some(&login),
                "the saved login of `ada` is refused: `bkg login` makes a new one, `bkg logout` removes it",
            ),
            (
                401,
                None,
                None,
                Some(&environment),
                "it came from the variable `BKG_API_KEY`: set it to a valid key, or unset it",
            ),
            (
                403,
                Some("forbidden"),
                None,
                Some(&login),
                "`bkg whoami` shows what you may do; `--root` uses the root key",
            ),
            (403, Some("forbidden"), None, Some(&root), ""),
            (403, Some("reauth_required"), None, Some(&login), "run `bkg login` again, or use `--root`"),
            (429, Some("rate_limited"), Some(7), None, "try again in 7 s at the earliest"),
            (429, Some("quota_exceeded"), Some(120), Some(&environment), ""),
            (429, Some("rate_limited"), None, Some(&login), "try again later"),
            (503, Some("overloaded"), Some(2), Some(&login), "try again in 2 s at the earliest"),
            (
                503,
                Some("plugin_unavailable"),
                Some(2),
                Some(&login),
                "`bkg --root plugin list` shows which plugins do not serve",
            ),
            (
                503,
                Some("not_initialised"),
                Some(2),
                Some(&root),
                "`bkg user reset NAME` makes an administrator with the root key",
            ),
            (404, Some("not_found"), None, Some(&login), ""),
        ] {
            let found = advice(&Circumstances { status, code, param: None, retry_after, origin });
            assert_eq!(found.unwrap_or_default(), expected, "{status} {code:?} {origin:?}");
        }
        for (status, param, origin, expected) in [
            (403, "oldPassword", &login, ""),
            (403, "scopes", &login, "`bkg whoami` shows what you may do; `--root` uses the root key"),
            (400, "user", &root, "`--user NAME` says whose"),
            (400, "user", &login, ""),
            (400, "name", &root, ""),
        ] {
            let (param, origin) = (Some(param), Some(origin));
            let found = advice(&Circumstances { status, code: None, param, retry_after: None, origin });
            assert_eq!(found.unwrap_or_default(), expected, "{status} {param:?} {origin:?}");
        }
    }
}
