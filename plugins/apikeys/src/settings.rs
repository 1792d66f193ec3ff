//! What an operator can set. `config.json` holds the defaults, `plugin.json` the schema.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// All settings; each takes effect with the next login, refresh or key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AccountSettings {
    bcrypt_cost: u32,
    session_hours: u32,
    refresh_days: u32,
    key_days: u32,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self { bcrypt_cost: 12, session_hours: 24, refresh_days: 30, key_days: 90 }
    }
}

impl AccountSettings {
    /// Whether the settings make sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, value, range) in [
            ("bcryptCost", self.bcrypt_cost, 4..=15),
            ("sessionHours", self.session_hours, 1..=720),
            ("refreshDays", self.refresh_days, 1..=365),
            ("keyDays", self.key_days, 1..=3650),
        ] {
            if !range.contains(&value) {
                return Err(format!("`{name}` is {} to {}, not {value}", range.start(), range.end()));
            }
        }
        Ok(())
    }

    /// The cost of bcrypt: the binary logarithm of its rounds.
    pub(crate) fn bcrypt_cost(&self) -> u32 {
        self.bcrypt_cost
    }

    /// How long the token of a login works.
    pub(crate) fn session_lasts(&self) -> Duration {
        HOUR * self.session_hours
    }

    /// How long a refresh token works.
    pub(crate) fn refresh_lasts(&self) -> Duration {
        DAY * self.refresh_days
    }

    /// How long a key works unless its maker says.
    pub(crate) fn key_lasts(&self) -> Duration {
        DAY * self.key_days
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_files_describe_the_settings_and_their_bounds() {
        let entry: Value = serde_json::from_str(include_str!("../plugin.json")).unwrap();
        let config: Value = serde_json::from_str(include_str!("../config.json")).unwrap();
        assert_eq!(config, serde_json::to_value(AccountSettings::default()).unwrap());
        for (name, property) in entry["configSchema"]["properties"].as_object().unwrap() {
            assert_eq!(property["default"], config[name], "{name}");
            let check = |value: i64| {
                let settings: AccountSettings = serde_json::from_value(json!({ (name): value })).unwrap();
                settings.check()
            };
            let bound = |which: &str| property[which].as_i64().unwrap();
            assert_eq!(check(bound("minimum")), Ok(()));
            assert_eq!(check(bound("maximum")), Ok(()));
            assert!(check(bound("minimum") - 1).is_err(), "{name}");
            assert!(check(bound("maximum") + 1).unwrap_err().contains(name));
        }
    }
}
