//! The launch ledger: one small file for each launch that may be running, so that the next host can
//! reap what a killed one left.
//!
//! A launch is recorded before its process exists and removed after its last process is gone, so at
//! every moment the ledger covers all that runs; it says nothing about what does not. Not fsynced: a
//! power cut ends the processes too, and the boot id tells. `supervisor` keeps it and reaps by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bkg_protocol::{InstanceId, PluginName};
use serde::{Deserialize, Serialize};

use super::{StoreError, atomic, make_private};

/// The ledger of one data directory.
#[derive(Debug)]
pub struct Ledger {
    directory: PathBuf,
    boot_id: String,
}

/// One launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// The plugin.
    pub plugin: PluginName,
    /// The id of the launch, which its processes carry in `BKG_PLUGIN_INSTANCE`.
    pub instance: InstanceId,
    /// Which boot of the machine it belongs to.
    pub boot_id: String,
    /// The launched process; `None` if the host died before it knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<LedgeredProcess>,
    /// The cgroups that it has to itself; each carries the launch's id in its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<PathBuf>,
}

/// A process such that it cannot be mistaken for a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgeredProcess {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

/// What the ledger holds.
#[derive(Debug, Default)]
pub struct LedgerContents {
    /// The launches of this boot, oldest first.
    pub entries: Vec<LedgerEntry>,
    /// Files that say nothing that can be acted on.
    pub unreadable: Vec<UnreadableEntry>,
}

/// A file of the ledger that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableEntry {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Ledger {
    pub(super) fn open(directory: PathBuf) -> Result<Self, StoreError> {
        let boot_id_file = Path::new("/proc/sys/kernel/random/boot_id");
        let boot_id = fs::read_to_string(boot_id_file).map_err(StoreError::disk("read", boot_id_file))?;
        make_private(&directory)?;
        atomic::remove_leftovers(&directory);
        let ledger = Self { directory, boot_id: boot_id.trim().to_owned() };
        ledger.forget_earlier_boots()?;
        Ok(ledger)
    }

    /// Nothing of a launch outlives the boot that it belongs to.
    fn forget_earlier_boots(&self) -> Result<(), StoreError> {
        let all = self.all()?;
        let earlier = all.entries.iter().filter(|entry| entry.boot_id != self.boot_id);
        earlier.map(|entry| self.remove(entry.instance)).try_for_each(|removed| removed)
    }

    /// Which boot of the machine this is.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Says that this launch is about to be, with these cgroups: before they are made and the process is
    /// spawned.
    ///
    /// # Errors
    /// The disk's; then do not spawn.
    pub fn record(
        &self,
        plugin: &PluginName,
        instance: InstanceId,
        cgroups: &[PathBuf],
    ) -> Result<(), StoreError> {
        self.write(plugin, instance, None, cgroups)
    }

    /// Says which process the launch became: right after it was spawned.
    ///
    /// # Errors
    /// The disk's; the launch is still covered, by the id in its environment.
    pub fn complete(
        &self,
        plugin: &PluginName,
        instance: InstanceId,
        process: LedgeredProcess,
        cgroups: &[PathBuf],
    ) -> Result<(), StoreError> {
        self.write(plugin, instance, Some(process), cgroups)
    }

    /// Says that nothing of the launch is left. Removing one that is not there is no error.
    ///
    /// # Errors
    /// The disk's; the next host then looks once more for what is not there.
    pub fn remove(&self, instance: InstanceId) -> Result<(), StoreError> {
        remove_file(&self.path(instance))
    }

    /// What is in the ledger.
    ///
    /// # Errors
    /// The directory cannot be listed. A single file that cannot be read is no error but reported.
    pub fn entries(&self) -> Result<LedgerContents, StoreError> {
        let mut contents = self.all()?;
        contents.entries.retain(|entry| entry.boot_id == self.boot_id);
        Ok(contents)
    }

    fn all(&self) -> Result<LedgerContents, StoreError> {
        let listed =
            || fs::read_dir(&self.directory)?.map(|item| Ok(item?.path())).collect::<io::Result<Vec<_>>>();
        let paths = listed().map_err(StoreError::disk("list", &self.directory))?;
        let mut contents = LedgerContents::default();
        for path in
            paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        {
            match self.read(&path) {
                Ok(entry) => contents.entries.push(entry),
                Err(reason) => contents.unreadable.push(UnreadableEntry { path, reason }),
            }
        }
        contents.entries.sort_by_key(|entry| entry.instance);
        contents.unreadable.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(contents)
    }

    /// Removes a file that [`Ledger::entries`] could not read, once that was reported.
    ///
    /// # Errors
    /// The disk's.
    pub fn discard(&self, unreadable: &UnreadableEntry) -> Result<(), StoreError> {
        remove_file(&unreadable.path)
    }

    fn read(&self, path: &Path) -> Result<LedgerEntry, String> {
        let text = fs::read(path).map_err(|error| error.to_string())?;
        let entry: LedgerEntry = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if path != self.path(entry.instance) {
            return Err(format!("it is about instance `{}`, which its name is not", entry.instance));
        }
        Ok(entry)
    }

    fn write(
        &self,
        plugin: &PluginName,
        instance: InstanceId,
        process: Option<LedgeredProcess>,
        cgroups: &[PathBuf],
    ) -> Result<(), StoreError> {
        let path = self.path(instance);
        let entry = LedgerEntry {
            plugin: plugin.clone(),
            instance,
            boot_id: self.boot_id.clone(),
            process,
            cgroups: cgroups.to_owned(),
        };
        let text = serde_json::to_vec(&entry).expect("a ledger entry has a JSON form");
        atomic::replace(&path, &text, 0o600).map_err(StoreError::disk("write", &path))
    }

    fn path(&self, instance: InstanceId) -> PathBuf {
        self.directory.join(format!("{instance}.json"))
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::disk("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(directory: &tempfile::TempDir) -> Ledger {
        Ledger::open(directory.path().join("ledger")).unwrap()
    }

    fn plugin() -> PluginName {
        "ping".parse().unwrap()
    }

    const PROCESS: LedgeredProcess = LedgeredProcess { pid: 7, start_time: 123 };

    #[test]
    fn a_launch_is_seen_by_the_next_host_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (InstanceId::new(), InstanceId::new());
        let before = ledger(&directory);
        let cgroups = [PathBuf::from(format!("/cgroup/bkg-{first}"))];
        before.record(&plugin(), second, &[]).unwrap();
        before.record(&plugin(), first, &cgroups).unwrap();
        before.complete(&plugin(), first, PROCESS, &cgroups).unwrap();
        drop(before);

        let after = ledger(&directory);
        let entry = |instance, process, cgroups: &[PathBuf]| LedgerEntry {
            plugin: plugin(),
            instance,
            boot_id: after.boot_id().to_owned(),
            process,
            cgroups: cgroups.to_owned(),
        };
        let contents = after.entries().unwrap();
        assert_eq!(contents.entries, [entry(first, Some(PROCESS), &cgroups), entry(second, None, &[])]);
        assert_eq!(contents.unreadable, []);

        after.remove(first).unwrap();
        after.remove(first).unwrap();
        assert_eq!(after.entries().unwrap().entries, [entry(second, None, &[])]);
    }

    #[test]
    fn launches_of_an_earlier_boot_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let earlier = Ledger { boot_id: "earlier".to_owned(), ..ledger(&directory) };
        earlier.record(&plugin(), InstanceId::new(), &[]).unwrap();
        assert_eq!(earlier.entries().unwrap().entries.len(), 1);
        assert_eq!(ledger(&directory).entries().unwrap().entries, []);
        assert_eq!(earlier.entries().unwrap().entries, []);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported_and_hides_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory);
        let instance = InstanceId::new();
        ledger.record(&plugin(), instance, &[]).unwrap();
        let good = ledger.path(instance);
        let paths = ["a.json", "b.json", "c.json"].map(|name| ledger.directory.join(name));
        fs::write(&paths[0], "").unwrap();
        fs::write(&paths[1], "\0\0\0\0").unwrap();
        fs::copy(&good, &paths[2]).unwrap();
        fs::write(ledger.directory.join("README"), "not an entry").unwrap();

        let contents = ledger.entries().unwrap();
        assert_eq!(contents.entries.len(), 1);
        assert_eq!(
            contents.unreadable.iter().map(|entry| &entry.path).collect::<Vec<_>>(),
            paths.iter().collect::<Vec<_>>()
        );
        assert!(contents.unreadable[2].reason.starts_with("it is about instance"), "{contents:?}");

        for unreadable in &contents.unreadable {
            ledger.discard(unreadable).unwrap();
        }
        assert!(ledger.entries().unwrap().unreadable.is_empty());
    }

    #[test]
    fn opening_removes_what_was_half_written() {
        let directory = tempfile::tempdir().unwrap();
        let half = ledger(&directory).directory.join(".x.json.1-1.tmp");
        fs::write(&half, "{").unwrap();
        ledger(&directory);
        assert!(!half.exists());
    }
}
