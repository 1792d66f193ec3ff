//! What is said about a plugin, layer upon layer, before it is read as an entry.
//!
//! `plugin.json`, then the catalogue's entry, then `config.json`, then what an operator saved. In the
//! files objects merge deep and arrays replace whole; what was saved is a patch (see `patch`) on top.
//! Not whether any of it is right: `entry` checks that, and asks here which layer it has to blame.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::entry::{EntryError, read_json};
use super::patch::{self, child};

/// All that is said about one plugin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layers {
    /// The lowest first.
    layers: Vec<Layer>,
    /// The file that is to blame for what no layer says.
    manifest: PathBuf,
}

/// What one file says, or what was saved.
#[derive(Clone, PartialEq)]
struct Layer {
    origin: LayerOrigin,
    /// The file; for what was saved, words that name the revision.
    file: PathBuf,
    fields: Map<String, Value>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The fields may hold secrets.
        out.debug_struct("Layer").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Where a value of an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
pub enum LayerOrigin {
    /// Nobody said anything.
    #[serde(rename = "default")]
    Default,
    /// The plugin's own manifest.
    #[serde(rename = "plugin.json")]
    Manifest,
    /// The catalogue of its directory.
    #[serde(rename = "plugins.json")]
    Catalogue,
    /// The defaults of its settings.
    #[serde(rename = "config.json")]
    Config,
    /// An operator.
    #[serde(rename = "saved")]
    Saved,
}

impl Layers {
    /// Reads what the files of the plugin in `folder` say; `listed` is its entry in a catalogue and the
    /// file that holds it.
    ///
    /// # Errors
    /// The first file that cannot be read, or `plugin.json` is missing and no catalogue lists it.
    pub fn read(folder: &Path, listed: Option<(&Path, &Map<String, Value>)>) -> Result<Self, EntryError> {
        let manifest = folder.join("plugin.json");
        let mut layers = Vec::new();
        match read_object(&manifest)? {
            Some(fields) => {
                layers.push(Layer { origin: LayerOrigin::Manifest, file: manifest.clone(), fields });
            }
            None if listed.is_none() => {
                let reason = "the file is missing: write the plugin's entry into it".to_owned();
                return Err(EntryError::Unreadable { file: manifest, reason });
            }
            None => {}
        }
        if let Some((file, fields)) = listed {
            let (file, fields) = (file.to_owned(), fields.clone());
            layers.push(Layer { origin: LayerOrigin::Catalogue, file, fields });
        }
        let file = folder.join("config.json");
        if let Some(fields) = read_object(&file)? {
            let fields = if fields.get("name").is_some_and(Value::is_string) {
                fields
            } else {
                Map::from_iter([("settings".to_owned(), Value::Object(fields))])
            };
            layers.push(Layer { origin: LayerOrigin::Config, file, fields });
        }
        let layers = Self { layers, manifest };
        layers.check_names()?;
        Ok(layers)
    }

    /// The same files with another saved layer: a merge patch onto what the files say.
    pub fn with_saved(&self, revision: u64, overlay: Map<String, Value>) -> Self {
        let mut layers = self.files();
        if !overlay.is_empty() {
            let file = PathBuf::from(format!("saved revision {revision}"));
            layers.layers.push(Layer { origin: LayerOrigin::Saved, file, fields: overlay });
        }
        layers
    }

    /// What the files alone say.
    pub fn files(&self) -> Self {
        let files = self.layers.iter().filter(|layer| layer.origin != LayerOrigin::Saved);
        Self { layers: files.cloned().collect(), manifest: self.manifest.clone() }
    }

    /// What the files alone say of one member.
    pub(super) fn files_say(&self, member: &str) -> Option<Value> {
        let mut merged = Map::new();
        for layer in self.layers.iter().filter(|layer| layer.origin != LayerOrigin::Saved) {
            if let Some(value) = layer.fields.get(member) {
                merge_deep(&mut merged, Map::from_iter([(member.to_owned(), value.clone())]));
            }
        }
        merged.shift_remove(member)
    }

    /// All layers in one.
    pub fn merged(&self) -> Map<String, Value> {
        let mut merged = Map::new();
        for layer in &self.layers {
            match layer.origin {
                LayerOrigin::Saved => patch::apply(&mut merged, layer.fields.clone()),
                _ => merge_deep(&mut merged, layer.fields.clone()),
            }
        }
        merged
    }

    /// Where each value of an effective entry comes from: members one by one, arrays whole, by their
    /// JSON Pointers.
    pub fn origins(&self, entry: &Map<String, Value>) -> BTreeMap<String, LayerOrigin> {
        let mut origins = BTreeMap::new();
        self.collect_origins(&mut origins, "", entry);
        origins
    }

    fn collect_origins(
        &self,
        origins: &mut BTreeMap<String, LayerOrigin>,
        at: &str,
        members: &Map<String, Value>,
    ) {
        for (name, value) in members {
            let path = child(at, name);
            match value {
                // A schema is one value: nobody asks where its parts come from.
                Value::Object(members) if !members.is_empty() && path != "/configSchema" => {
                    self.collect_origins(origins, &path, members);
                }
                _ => {
                    let steps: Vec<String> = patch::steps(&path).collect();
                    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
                    let layer = self.layers.iter().rfind(|layer| layer.says(&steps));
                    origins.insert(path, layer.map_or(LayerOrigin::Default, |layer| layer.origin));
                }
            }
        }
    }

    /// The file that decided the value at `path`, or the one that comes closest.
    pub(super) fn to_blame(&self, path: &[&str]) -> &Path {
        let says = self.layers.iter().rfind(|layer| layer.says(path));
        says.or_else(|| self.layers.iter().rfind(|layer| layer.fields.contains_key(path[0])))
            .map_or(&self.manifest, |layer| &layer.file)
    }

    /// A whole entry merges onto another only when both speak of the same plugin.
    fn check_names(&self) -> Result<(), EntryError> {
        let mut named =
            self.layers.iter().filter_map(|layer| Some((&layer.file, layer.fields.get("name")?)));
        let Some((first_file, first)) = named.next() else { return Ok(()) };
        match named.find(|(_, name)| *name != first) {
            None => Ok(()),
            Some((file, name)) => Err(EntryError::Wrong {
                file: file.clone(),
                path: "name".to_owned(),
                pointer: "/name".to_owned(),
                reason: format!(
                    "{name} is not the name in `{}`, {first}: write one name (a setting called `name` belongs \
                     below `settings` of `plugin.json`)",
                    first_file.display()
                ),
            }),
        }
    }
}

impl Layer {
    /// Whether this layer has something at `path`.
    fn says(&self, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else { return true };
        rest.iter()
            .try_fold(self.fields.get(*first), |value, step| match value? {
                Value::Array(items) => Some(items.get(step.parse::<usize>().ok()?)),
                other => Some(other.get(step)),
            })
            .flatten()
            .is_some()
    }
}

fn merge_deep(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge_deep(below, above),
            (_, value) => drop(below.insert(name, value)),
        }
    }
}

fn read_object(file: &Path) -> Result<Option<Map<String, Value>>, EntryError> {
    match read_json(file)? {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(found) => {
            let reason =
                format!("the file holds `{}`: write an object `{{…}}`", super::entry::shown(&found));
            Err(EntryError::Unreadable { file: file.to_owned(), reason })
        }
    }
}
