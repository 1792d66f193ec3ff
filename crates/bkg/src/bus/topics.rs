//! What plugins tell one another without being asked: who may publish what, and who hears of it.
//!
//! Not how events wait and are written (`registry::Topics`, `connection`). A plugin publishes below its
//! own name alone, and hears of others what its entry lists; that is looked up for each event, so that
//! a right that is taken away is gone at once. Publishing never waits for anybody.

use bkg_protocol::message::{Event, Publish};
use bkg_protocol::{NameError, TopicName};

use crate::registry::{Instance, MOST_TOPICS, Registry};

/// The first word of the host's own topics.
const HOST: &str = "host";

/// Why something that a plugin said about topics has no effect, or none yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum TopicRefused {
    /// Not the name of a topic.
    #[error("{0}")]
    NotATopic(#[from] NameError),
    /// A topic of somebody else.
    #[error("published `{0}`, which is not its own: it may publish below its own name only, as `{1}.…`")]
    NotItsOwn(TopicName, String),
    /// A topic of another plugin that its entry does not list. The subscription is kept.
    #[error(
        "subscribed to `{0}`, of which it hears nothing until its entry lists it: add it to `subscribes`"
    )]
    NoRight(TopicName),
    /// One subscription more than are kept.
    #[error(
        "subscribed to `{0}`, one topic too many: a session may have {MOST_TOPICS}; unsubscribe from others"
    )]
    TooMany(TopicName),
}

/// Keeps an event for everybody who wants it and may have it.
pub(super) fn publish(
    registry: &Registry,
    from: &Instance,
    Publish { topic, data }: Publish,
) -> Result<(), TopicRefused> {
    let name: TopicName = topic.parse()?;
    if name.owner() != from.plugin.as_str() || name.owner() == HOST {
        return Err(TopicRefused::NotItsOwn(name, from.plugin.to_string()));
    }
    from.topics.published();
    let event = Event { topic, data, client: None };
    for record in registry.view().plugins().filter(|record| record.entry.may_hear(&name)) {
        for instance in &record.instances {
            instance.offer_event(&event);
        }
    }
    Ok(())
}

/// Notes that an instance wants a topic, whether or not it may have it now.
pub(super) fn subscribe(registry: &Registry, by: &Instance, topic: &str) -> Result<(), TopicRefused> {
    let name: TopicName = topic.parse()?;
    by.topics.want(name.clone()).map_err(|_| TopicRefused::TooMany(name.clone()))?;
    let may_hear = registry.plugin(by.plugin.as_str()).is_some_and(|record| {
        // A version that does not serve yet has an entry of its own.
        if record.team == by.team { record.entry.may_hear(&name) } else { by.entry().may_hear(&name) }
    });
    if may_hear { Ok(()) } else { Err(TopicRefused::NoRight(name)) }
}
