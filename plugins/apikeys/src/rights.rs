//! Who asks, and what they may do: the caller of a request, looked up in the database.
//!
//! The host says who it is; what they may do now is what the database says in the very state that is
//! changed, so that a right that was taken away a moment ago is gone. The invariants: nobody gives more
//! than they have, and only a login changes what belongs to a person.

use bkg_sdk::{Caller, Request, Scopes};
use bkg_sqlite::rusqlite::Connection;

use crate::bounds::Bounds;
use crate::key::Key;
use crate::moment::Moment;
use crate::names::UserName;
use crate::refusal::Refusal;
use crate::user::User;

/// Who asks, as the host says.
#[derive(Debug, Clone)]
pub(crate) enum Asker {
    /// The host, on nobody's behalf.
    Host,
    /// Whoever holds the root key.
    Root,
    /// A user, with a login or a key.
    User(Caller),
}

/// Who asks, as the database knows them.
#[derive(Debug)]
pub(crate) enum Authority {
    /// The host, on nobody's behalf.
    Host,
    /// Whoever holds the root key.
    Root,
    /// A user, with a login or a key.
    Person(Box<Person>),
}

/// A user who asks.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) user: User,
    /// The key, if it is one that asks.
    key: Option<Key>,
    /// What they may do with this login or key now.
    scopes: Scopes,
}

impl Asker {
    pub(crate) fn of(request: &Request) -> Self {
        match request.caller() {
            None => Self::Host,
            Some(caller) if caller.user == "root" && caller.key_id.is_none() => Self::Root,
            Some(caller) => Self::User(caller.clone()),
        }
    }

    /// Looks the caller up.
    ///
    /// # Errors
    /// They may do nothing any more, or never could.
    pub(crate) fn resolve(&self, connection: &Connection) -> Result<Authority, Refusal> {
        let caller = match self {
            Self::Host => return Ok(Authority::Host),
            Self::Root => return Ok(Authority::Root),
            Self::User(caller) => caller,
        };
        let gone = || Refusal::forbidden("the user who asks may not log in any more");
        let name: UserName = caller.user.parse().map_err(|_| gone())?;
        let user = User::by_name(connection, &name)?.filter(|user| !user.disabled).ok_or_else(gone)?;
        let claimed = Scopes::lenient(caller.scopes.iter().map(String::as_str));
        let mut scopes =
            if user.must_change_password { Scopes::default() } else { claimed.within(&user.scopes) };
        let key = match &caller.key_id {
            None => None,
            Some(id) => {
                let now = Moment::now();
                let mut key = Key::by_id(connection, id)?
                    .filter(|key| key.user_id == user.id && key.works(now))
                    .ok_or_else(|| Refusal::forbidden("the key that asks does not work any more"))?;
                scopes = scopes.within(&key.scopes);
                // Perhaps it asks with the secret that is about to end, which must not outlive itself.
                let secret_ends = key.previous.map(|(_, until)| until).filter(|until| *until > now);
                key.bounds.expires_at = [key.bounds.expires_at, secret_ends].into_iter().flatten().min();
                Some(key)
            }
        };
        Ok(Authority::Person(Box::new(Person { user, key, scopes })))
    }
}

impl Authority {
    /// The name for `createdBy` and for logs.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Host => "the host",
            Self::Root => "root",
            Self::Person(person) => &person.user.name,
        }
    }

    /// The user who asks, if it is one.
    pub(crate) fn user(&self) -> Option<&User> {
        match self {
            Self::Person(person) => Some(&person.user),
            Self::Host | Self::Root => None,
        }
    }

    /// Whether `user` asks, by login or by key.
    pub(crate) fn is(&self, user_id: &str) -> bool {
        self.user().is_some_and(|user| user.id == user_id)
    }

    /// Whether `user` asks, by a login and not by a key.
    pub(crate) fn is_login_of(&self, user_id: &str) -> bool {
        matches!(self, Self::Person(person) if person.key.is_none() && person.user.id == user_id)
    }

    /// Whether it is allowed to do what `scope` names.
    pub(crate) fn may(&self, scope: &str) -> bool {
        match self {
            Self::Host => false,
            Self::Root => true,
            Self::Person(person) => person.scopes.grant(scope),
        }
    }

    /// Goes on only if `scope` is granted.
    ///
    /// # Errors
    /// It is not; the message names the scope.
    pub(crate) fn require(&self, scope: &str) -> Result<(), Refusal> {
        if self.may(scope) {
            return Ok(());
        }
        Err(Refusal::forbidden(format!("`{}` needs the scope `{scope}` for that", self.name())))
    }

    /// Goes on only if all of `scopes` are granted, since they are to be given away.
    ///
    /// # Errors
    /// The first that is not; `param` asked for it.
    pub(crate) fn require_all(&self, param: &str, scopes: &Scopes) -> Result<(), Refusal> {
        let missing = match self {
            Self::Root => return Ok(()),
            Self::Host => scopes.iter().next(),
            Self::Person(person) => person.scopes.first_missing(scopes),
        };
        match missing {
            None => Ok(()),
            Some(scope) => {
                let message =
                    format!("`{}` does not have the scope `{scope}` and cannot give it", self.name());
                Err(Refusal::too_much(param, message))
            }
        }
    }

    /// The bounds of the key that asks: what it makes has no wider ones.
    pub(crate) fn bounds(&self) -> Option<&Bounds> {
        match self {
            Self::Person(person) => person.key.as_ref().map(|key| &key.bounds),
            Self::Host | Self::Root => None,
        }
    }
}
