//! A Python file with a class that is to run as a plugin, read at the door.
//!
//! Which class it is, and whether it fits, is found out by `bkg_sdk.wrap` when the plugin starts: that
//! takes Python. Here the file has to be one that can lie in the new folder.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::ScaffoldError;

/// What stands in the templates for the name of the file.
pub(super) const PLACEHOLDER: &str = "my_class_plugin.py";
/// The file of the template that the wrapped one must not replace.
const OURS: &str = "plugin.py";
/// Modules that the SDK or what it stands on may import: those of Python 3.11 and the SDK's own. A file beside
/// `plugin.py` that is called like one of them would be found in its stead.
const IMPORTED: &str = "\
    abc aifc argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb binascii bisect \
    bkg_sdk builtins bz2 cProfile calendar cgi cgitb chunk cmath cmd code codecs codeop collections \
    colorsys compileall concurrent configparser contextlib contextvars copy copyreg crypt csv ctypes \
    curses dataclasses datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum \
    errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt \
    getpass gettext glob graphlib grp gzip hashlib heapq hmac html http imaplib imghdr imp importlib \
    inspect io ipaddress itertools json keyword lib2to3 linecache locale logging lzma mailbox mailcap \
    marshal math mimetypes mmap modulefinder msgspec msilib msvcrt multiprocessing netrc nis nntplib nt \
    ntpath nturl2path numbers opcode operator optparse os ossaudiodev pathlib pdb pickle pickletools \
    pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile \
    pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter runpy \
    sched secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket \
    socketserver spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string stringprep \
    struct subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios \
    textwrap threading time timeit tkinter token tokenize tomllib trace traceback tracemalloc tty turtle \
    types typing unicodedata unittest urllib uu uuid venv warnings wave weakref webbrowser websockets \
    winreg winsound wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zlib zoneinfo";
/// More than any class, in bytes; a larger file is something else.
const LARGEST: u64 = 1 << 20;

/// A Python file, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedFile {
    name: String,
    text: Vec<u8>,
}

impl WrappedFile {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// [`ScaffoldError::Wrapped`] if it cannot be read or cannot be such a file.
    pub fn read(path: &Path) -> Result<Self, ScaffoldError> {
        let wrong = |reason: String| ScaffoldError::Wrapped { path: path.to_owned(), reason };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Some(stem) = name.strip_suffix(".py").filter(|stem| !stem.is_empty()) else {
            return Err(wrong(
                "its name does not end in `.py`: name a Python file with a class".to_owned(),
            ));
        };
        if !stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')) {
            return Err(wrong(
                "rename it: only letters, digits, `_`, `-` and `.` can stand in its name".to_owned(),
            ));
        }
        if [OURS, "test_plugin.py"].contains(&name.as_str()) {
            return Err(wrong("rename it: the new folder has a file of that name".to_owned()));
        }
        if IMPORTED.split(' ').any(|module| module == stem) {
            let reason = format!(
                "rename it, to `{stem}_plugin.py` for example: Python would import it instead of its own `{stem}`"
            );
            return Err(wrong(reason));
        }
        let mut text = Vec::new();
        let unreadable = |error: std::io::Error| wrong(error.to_string());
        File::open(path)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut text))
            .map_err(unreadable)?;
        if text.len() as u64 > LARGEST {
            return Err(wrong("it is larger than 1 MiB: name a Python file with a class".to_owned()));
        }
        Ok(Self { name, text })
    }

    /// Its name without the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }
}
