// SPDX-License-Identifier: ISC
//! Whose patches are taken: public keys of the host, never of a root (decision 15).
#![forbid(unsafe_code)]

use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sign::{MAX_FILE, PublicKey, signer};

/// Where the host keeps the keys of all that is signed.
pub const KEYS: &str = "/etc/signify";
/// How the names of those end that sign patches. Those of packages and sets sign other things, whatever they say.
const ENDING: &[u8] = b"-patch.pub";
/// Group and others may write.
const SHARED: u32 = 0o022;

/// The keys that may have signed a file, each with what it is called.
#[derive(Debug, Clone, Default)]
pub struct Keys(pub Vec<(String, PublicKey)>);

impl Keys {
    /// The keys of the host: every `*-patch.pub` in [`KEYS`].
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if another than root can put one there; [`ErrorKind::BadInput`] for one that is none.
    pub fn of_host() -> Result<Keys> {
        Keys::in_directory(Path::new(KEYS))
    }

    /// The key of the host that signs what syspatch(8) fetches, of an OpenBSD release: it verifies nothing else.
    ///
    /// # Errors
    /// As [`Keys::of_host`]; [`ErrorKind::NotFound`] if the host has none.
    pub fn of_syspatch(release: &str) -> Result<Keys> {
        let digits: String = release.chars().filter(char::is_ascii_digit).collect();
        let file = Path::new(KEYS).join(format!("openbsd-{digits}-syspatch.pub"));
        Keys::trusted(&[file]).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.hint("name it with --key FILE"),
            _ => error,
        })
    }

    /// The keys in these files of the host.
    ///
    /// # Errors
    /// As [`Keys::of_host`]; [`ErrorKind::NotFound`] for a file that is not there.
    pub fn trusted(files: &[PathBuf]) -> Result<Keys> {
        for file in files {
            for path in [file.as_path()].into_iter().chain(file.parent()) {
                check(path, &fs::symlink_metadata(path).on("stat", bytes(path))?)?;
            }
        }
        Keys::load(files)
    }

    /// The keys in these files.
    ///
    /// # Errors
    /// As open(2) and read(2); [`ErrorKind::BadInput`] for a file that is no public key.
    pub fn load(files: &[PathBuf]) -> Result<Keys> {
        let key = |file: &PathBuf| {
            let key = PublicKey::parse(&read_short(file)?).map_err(|error| error.at(bytes(file)))?;
            Ok((file.display().to_string(), key))
        };
        Ok(Keys(files.iter().map(key).collect::<Result<_>>()?))
    }

    fn in_directory(dir: &Path) -> Result<Keys> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Keys::default()),
            entries => entries.on("open", bytes(dir))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.on("read", bytes(dir))?.path();
            files.extend(path.file_name().is_some_and(|name| name.as_bytes().ends_with(ENDING)).then_some(path));
        }
        files.sort();
        Keys::trusted(&files)
    }

    /// The key with the number that is in this signature.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] if it is none of them; [`ErrorKind::BadInput`] if it is no signature.
    pub fn find(&self, signature: &[u8]) -> Result<&(String, PublicKey)> {
        let number = signer(signature)?;
        self.0.iter().find(|(_, key)| key.number() == number).ok_or_else(|| {
            let reason = match self.0.as_slice() {
                [] => format!("it is signed by key {number}, and no key is known here"),
                [(name, _)] => format!("it is signed by key {number}, which is not {name}"),
                keys => format!("it is signed by key {number}, which is none of the {} known here", keys.len()),
            };
            let hint = "give the public key with --key, or put it into /etc/signify as NAME-patch.pub";
            Error::new(ErrorKind::Unverified, reason).hint(hint)
        })
    }
}

/// Refuses what another than root may have put there. In a user namespace root has another number: the owner of `/`.
fn check(path: &Path, found: &Metadata) -> Result<()> {
    let root = fs::metadata("/").on("stat", "/")?.uid();
    let ours = (found.uid() == root || found.uid() == 0) && found.mode() & SHARED == 0;
    if ours && (found.is_dir() || found.is_file()) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Refused, "others than root can change which keys are trusted here");
    Err(error.at(bytes(path)).hint("chown root and chmod go-w it, or name the key with --key"))
}

/// Reads a key or a detached signature: as much of the file as signify reads.
///
/// # Errors
/// As open(2) and read(2).
pub fn read_short(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let open = fs::File::open(file).on("open", bytes(file))?;
    open.take(MAX_FILE as u64 + 1).read_to_end(&mut text).on("read", bytes(file))?;
    Ok(text)
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SecretKey;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_what_root_alone_put_there_is_trusted() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("signify");
        assert!(Keys::in_directory(&dir).unwrap().0.is_empty());
        fs::create_dir(&dir).unwrap();
        let put = |name: &str, number: u8| {
            let text = SecretKey::new([number; 8], [number; 32]).public().to_file("a key").unwrap();
            fs::write(dir.join(name), text).unwrap();
        };
        let chmod = |name: &str, mode| fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
        put("fleet-patch.pub", 1);
        put("other-pkg.pub", 2);
        put("patch.pub", 3);
        let names = || Keys::in_directory(&dir).map(|keys| keys.0.len()).map_err(|error| error.kind());
        if fs::metadata(&dir).unwrap().uid() != 0 {
            // Not root: what is ours is not the host's.
            return assert_eq!(names(), Err(ErrorKind::Refused));
        }
        chmod("", 0o755);
        chmod("fleet-patch.pub", 0o644);
        assert_eq!(names(), Ok(1));
        for (name, mode, expect) in [
            ("", 0o775, Err(ErrorKind::Refused)),
            ("", 0o757, Err(ErrorKind::Refused)),
            ("", 0o755, Ok(1)),
            ("fleet-patch.pub", 0o664, Err(ErrorKind::Refused)),
            ("fleet-patch.pub", 0o600, Ok(1)),
            ("other-pkg.pub", 0o666, Ok(1)),
        ] {
            chmod(name, mode);
            assert_eq!(names(), expect, "{name} {mode:o}");
        }
        std::os::unix::fs::chown(dir.join("fleet-patch.pub"), Some(1000), None).unwrap();
        assert_eq!(names(), Err(ErrorKind::Refused));
        fs::remove_file(dir.join("fleet-patch.pub")).unwrap();
        symlink(temp.path().join("elsewhere"), dir.join("fleet-patch.pub")).unwrap();
        assert_eq!(names(), Err(ErrorKind::Refused));
        fs::remove_file(dir.join("fleet-patch.pub")).unwrap();
        fs::write(dir.join("fleet-patch.pub"), "no key").unwrap();
        assert_eq!(names(), Err(ErrorKind::BadInput));
    }
}
