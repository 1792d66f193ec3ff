//! How far a caller's credential reaches: to which plugins, and to which models.
//!
//! Not what it may do there: that is a matter of scopes. It goes with every request that is made on
//! the caller's behalf, also with what plugins ask of one another, so that nobody gets around it.

use bkg_protocol::{Pattern, PluginName};

/// The plugins and models that a credential was narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The plugins; `None` means all.
    pub plugins: Option<Vec<Pattern>>,
    /// The models, as ids or as `plugin/id`; `None` means all.
    pub models: Option<Vec<Pattern>>,
}

impl Reach {
    /// Whether it reaches a plugin.
    pub fn has_plugin(&self, plugin: &PluginName) -> bool {
        is_among(self.plugins.as_deref(), plugin.as_str())
    }

    /// Whether it reaches a name that stands for models.
    pub fn has_name(&self, name: &str) -> bool {
        is_among(self.models.as_deref(), name)
    }

    /// Whether it reaches a model of a plugin, under either of the model's names.
    pub fn has_model(&self, plugin: &PluginName, model: &str) -> bool {
        self.models.is_none()
            || is_among(self.models.as_deref(), model)
            || is_among(self.models.as_deref(), &format!("{plugin}/{model}"))
    }
}

fn is_among(patterns: Option<&[Pattern]>, name: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Option<Vec<Pattern>> {
        Some(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_model_is_reached_under_either_name_and_nothing_means_nothing() {
        let plugin: PluginName = "llmserver".parse().unwrap();
        for (models, reached) in [
            (None, true),
            (patterns(&["stand-in"]), true),
            (patterns(&["llmserver/stand-in"]), true),
            (patterns(&["llmserver/*"]), true),
            (patterns(&["other/*", "stand"]), false),
            (patterns(&[]), false),
        ] {
            let reach = Reach { plugins: None, models };
            assert_eq!(reach.has_model(&plugin, "stand-in"), reached, "{reach:?}");
        }
    }

    #[test]
    fn a_plugin_is_reached_if_it_is_listed() {
        let reach = Reach { plugins: patterns(&["ping"]), models: None };
        assert!(
            reach.has_plugin(&"ping".parse().unwrap()) && !reach.has_plugin(&"llmserver".parse().unwrap())
        );
        assert!(Reach::default().has_plugin(&"llmserver".parse().unwrap()));
    }
}
