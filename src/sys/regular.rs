// SPDX-License-Identifier: ISC
//! Files of the host that the user names, wherever they lie.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens the regular file at `path` for reading; links are followed.
///
/// A pipe would be waited for, whatever the user then wants, and a device would act on being opened: looked at first, and
/// once more when it is open (decision E14).
///
/// # Errors
/// As open(2); [`io::ErrorKind::InvalidInput`] for anything else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
    if !std::fs::metadata(path)?.is_file() {
        return Err(other());
    }
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// Reads all of it, as [`open_regular`] opens it.
///
/// # Errors
/// As [`open_regular`] and read(2).
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    io::Read::read_to_end(&mut open_regular(path)?, &mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_regular_file_is_opened() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("pipe", at("link-to-pipe")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        for name in ["file", "link"] {
            assert_eq!(read_regular(&at(name)).unwrap(), b"text", "{name}");
        }
        for (name, kind) in [
            ("pipe", io::ErrorKind::InvalidInput),
            ("link-to-pipe", io::ErrorKind::InvalidInput),
            (".", io::ErrorKind::InvalidInput),
            ("none", io::ErrorKind::NotFound),
        ] {
            assert_eq!(open_regular(&at(name)).unwrap_err().kind(), kind, "{name}");
        }
        assert_eq!(open_regular(Path::new("/dev/null")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
