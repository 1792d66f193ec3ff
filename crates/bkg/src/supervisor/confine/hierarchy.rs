//! Finds the cgroup hierarchies in which this host may make cgroups, and gets them ready.
//!
//! Asked once, when the host starts. It makes nothing for any launch. The invariant: a hierarchy is only
//! named after a cgroup could really be made and removed in it, and nobody's processes are moved but the
//! host's own. Called by `confine`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use procfs::ProcResult;
use procfs::process::Process;

use super::cgroup::{Version, write};

/// Where the host itself goes when its own cgroup is to hold those of launches: in version 2 a cgroup
/// that hands controllers down has no processes.
const HOST_LEAF: &str = "bkg.host";
/// Attributes with which systemd says that a cgroup was handed over.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];
/// Exists where systemd owns the tree.
const SYSTEMD: &str = "/run/systemd/system";

/// What a hierarchy can do for a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
    Freezer,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Pids, Self::Freezer];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
        }
    }
}

/// A hierarchy in which cgroups of launches can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// The cgroup below which they are made.
    pub(super) parent: PathBuf,
    /// What bounds them there.
    pub(super) controllers: Vec<Controller>,
}

/// A mounted hierarchy, and where in it this process is.
#[derive(Debug)]
struct Mounted {
    version: Version,
    mount: PathBuf,
    /// The cgroup of this process; `None` if it is not below the mount.
    own: Option<PathBuf>,
    /// Version 1 only: in version 2 each cgroup says for itself.
    controllers: Vec<Controller>,
}

/// The hierarchies that can be used, and why others cannot. `parent` is a path from the root of each
/// hierarchy; without one, cgroups go below the host's own.
pub(super) fn find(parent: Option<&Path>) -> (Vec<Hierarchy>, Vec<String>) {
    let mounted = match mounted() {
        Ok(mounted) => mounted,
        Err(error) => {
            return (Vec::new(), vec![format!("the cgroups of this machine cannot be read: {error}")]);
        }
    };
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    if mounted.is_empty() {
        notes.push("this machine has no cgroup hierarchy mounted".to_owned());
    }
    for hierarchy in mounted {
        match hierarchy.prepared(parent) {
            Ok((hierarchy, more)) => {
                found.push(hierarchy);
                notes.extend(more);
            }
            Err(note) => notes.push(note),
        }
    }
    (found, notes)
}

fn mounted() -> ProcResult<Vec<Mounted>> {
    let this = Process::myself()?;
    let groups = this.cgroups()?;
    let mut mounted = Vec::new();
    for mount in this.mountinfo()? {
        let (version, controllers) = match mount.fs_type.as_str() {
            "cgroup2" => (Version::V2, Vec::new()),
            "cgroup" => {
                let offers = |controller: &Controller| mount.super_options.contains_key(controller.name());
                (Version::V1, Controller::ALL.into_iter().filter(offers).collect())
            }
            _ => continue,
        };
        let is_own = |names: &[String]| match version {
            Version::V2 => names.iter().all(String::is_empty),
            Version::V1 => controllers.iter().any(|one| names.iter().any(|name| name == one.name())),
        };
        if version == Version::V1 && controllers.is_empty() {
            continue;
        }
        let own = (&groups).into_iter().find(|group| is_own(&group.controllers));
        let own = own.and_then(|group| Path::new(&group.pathname).strip_prefix(&mount.root).ok());
        let own = own.map(|below| mount.mount_point.join(below));
        mounted.push(Mounted { version, mount: mount.mount_point, own, controllers });
    }
    Ok(mounted)
}

impl Mounted {
    /// Gets the hierarchy ready, or says why it cannot be used.
    fn prepared(self, parent: Option<&Path>) -> Result<(Hierarchy, Vec<String>), String> {
        let base = match (parent, self.own) {
            (Some(parent), _) => {
                let base = self.mount.join(parent.strip_prefix("/").unwrap_or(parent));
                fs::create_dir_all(&base).map_err(|error| unusable(&base, &error))?;
                base
            }
            (None, Some(own)) => {
                let is_leaf = own.file_name().is_some_and(|name| name == HOST_LEAF);
                let base = if is_leaf { own.parent().unwrap_or(&own).to_owned() } else { own };
                check_delegation(self.version, &self.mount, &base)?;
                base
            }
            (None, None) => {
                return Err(format!("the host's own cgroup is not below `{}`", self.mount.display()));
            }
        };
        probe(&base).map_err(|error| unusable(&base, &error))?;
        let (controllers, notes) = match self.version {
            Version::V1 => (self.controllers, Vec::new()),
            Version::V2 => handed_down(&self.mount, &base, parent.is_none()),
        };
        Ok((Hierarchy { version: self.version, parent: base, controllers }, notes))
    }
}

fn unusable(base: &Path, error: &io::Error) -> String {
    format!("no cgroup can be made in `{}`: {error}", base.display())
}

/// Where systemd owns the tree, a cgroup is only to be used by whom it was given to.
fn check_delegation(version: Version, mount: &Path, base: &Path) -> Result<(), String> {
    if version == Version::V1 || base == mount || !Path::new(SYSTEMD).exists() {
        return Ok(());
    }
    let is_delegated = DELEGATED.iter().any(|name| {
        let mut value = [0; 8];
        let length = rustix::fs::getxattr(base, *name, &mut value[..]);
        length.is_ok_and(|length| value[..length].starts_with(b"1"))
    });
    if is_delegated {
        return Ok(());
    }
    Err(format!(
        "systemd has not handed `{}` over to the host: set `Delegate=yes` in its unit, or \
         `supervisor.cgroup_parent`",
        base.display()
    ))
}

/// Makes a cgroup and removes it again: permissions alone do not tell.
fn probe(base: &Path) -> io::Result<()> {
    // Several hosts can be in one process, in tests.
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let probe = base.join(format!("bkg.probe.{}.{number}", std::process::id()));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)
}

/// The controllers that children of `base` get, in version 2, after asking for all that bound something.
fn handed_down(mount: &Path, base: &Path, is_own: bool) -> (Vec<Controller>, Vec<String>) {
    // Down from the root: a cgroup can only hand on what it was given itself.
    let mut path: Vec<_> = base.ancestors().take_while(|directory| directory.starts_with(mount)).collect();
    path.reverse();
    let above = if is_own { path.len() - 1 } else { 0 };
    let (mut given, mut notes) = (Vec::new(), Vec::new());
    for controller in [Controller::Memory, Controller::Cpu, Controller::Pids] {
        let handed =
            path[above..].iter().try_for_each(|directory| hand_down(directory, controller, is_own));
        match handed {
            Ok(()) => given.push(controller),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => notes.push(format!(
                "`{}` does not hand the controller `{}` down: {error}",
                base.display(),
                controller.name()
            )),
        }
    }
    (given, notes)
}

/// Gives a controller to the children of a cgroup.
fn hand_down(directory: &Path, controller: Controller, is_own: bool) -> io::Result<()> {
    let control = directory.join("cgroup.subtree_control");
    if lists(&control, controller) {
        return Ok(());
    }
    if !lists(&directory.join("cgroup.controllers"), controller) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let order = format!("+{}", controller.name());
    match write(&control, &order) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && is_own => {
            step_aside(directory)?;
            write(&control, &order)
        }
        written => written,
    }
}

/// Moves the host out of its cgroup into a leaf below it, if it is alone there.
fn step_aside(directory: &Path) -> io::Result<()> {
    let host = std::process::id();
    let listed = fs::read_to_string(directory.join("cgroup.procs"))?;
    if listed.lines().any(|pid| pid.parse() != Ok(host)) {
        return Err(io::Error::other(
            "other processes are in the host's cgroup: set `supervisor.cgroup_parent`",
        ));
    }
    let leaf = directory.join(HOST_LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    write(&leaf.join("cgroup.procs"), &host.to_string())
}

fn lists(file: &Path, controller: Controller) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().any(|word| word == controller.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_steps_aside_only_if_it_is_alone_in_its_cgroup() {
        let root = tempfile::tempdir().unwrap();
        let procs = |directory: &Path| directory.join("cgroup.procs");
        let host = std::process::id().to_string();
        fs::write(procs(root.path()), format!("{host}\n1\n")).unwrap();
        let error = step_aside(root.path()).unwrap_err().to_string();
        assert_eq!(error, "other processes are in the host's cgroup: set `supervisor.cgroup_parent`");
        assert!(!root.path().join(HOST_LEAF).exists());

        fs::write(procs(root.path()), format!("{host}\n")).unwrap();
        let leaf = root.path().join(HOST_LEAF);
        fs::create_dir(&leaf).unwrap();
        fs::write(procs(&leaf), "").unwrap();
        step_aside(root.path()).unwrap();
        assert_eq!(fs::read_to_string(procs(&leaf)).unwrap(), host);
    }

    #[test]
    fn a_controller_is_handed_down_where_it_is_offered_and_not_yet() {
        let check = |offered: &str, before: &str, given: &[Controller], after: &str| {
            let root = tempfile::tempdir().unwrap();
            let base = root.path().join("own");
            fs::create_dir(&base).unwrap();
            fs::write(base.join("cgroup.controllers"), offered).unwrap();
            let control = base.join("cgroup.subtree_control");
            fs::write(&control, before).unwrap();
            let found = handed_down(root.path(), &base, true);
            assert_eq!(found, (given.to_vec(), Vec::new()), "{offered}");
            assert_eq!(fs::read_to_string(&control).unwrap(), after, "{offered}");
        };
        check("hugetlb", "", &[], "");
        check("cpuset memory", "", &[Controller::Memory], "+memory");
        check(
            "cpu memory pids",
            "memory pids cpu",
            &[Controller::Memory, Controller::Cpu, Controller::Pids],
            "memory pids cpu",
        );
    }
}
