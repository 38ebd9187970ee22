// SPDX-License-Identifier: ISC
//! Where loaders are told to look: `ld.so.hints` of OpenBSD, `ld.so.conf` of glibc, `ld-musl-*.path` of musl.
#![forbid(unsafe_code)]

use globset::Glob;

use super::view::{View, below};
use crate::error::Result;

/// No list of directories is longer, in bytes.
const MAX_LIST: u64 = 1 << 20;
/// The largest hints that are read, in bytes.
pub(crate) const MAX_HINTS: u64 = 16 << 20;
/// How deep one `ld.so.conf` may include another.
const MAX_DEPTH: usize = 8;
/// How many directories there may be in all.
const MAX_DIRS: usize = 1024;

/// The first number of ld.so.hints (HH_MAGIC), and the version that has a list of directories.
const MAGIC: u64 = 0o11_421_044_151;
const VERSION: u64 = 2;

/// The directories in OpenBSD's `ld.so.hints`; none if it is malformed. Its header is made of numbers as wide as the
/// machine's, in the machine's order: magic, version, then offsets; the fifth is that of the strings, the sixth their
/// size, the eighth that of the directories' list among them (`link.h`).
pub fn directories(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let wide = |at: usize| data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    let narrow = |at: usize| data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let kinds: [&dyn Fn(usize) -> Option<u64>; 4] = [
        &|n| wide(n * 8).map(u64::from_le_bytes),
        &|n| wide(n * 8).map(u64::from_be_bytes),
        &|n| narrow(n * 4).map(|bytes| u32::from_le_bytes(bytes).into()),
        &|n| narrow(n * 4).map(|bytes| u32::from_be_bytes(bytes).into()),
    ];
    let number = kinds.into_iter().find(|number| number(0) == Some(MAGIC))?;
    if number(1)? < VERSION {
        return None;
    }
    let (strings, size, list) = (number(4)?, number(5)?, number(7)?);
    let table = data.get(usize::try_from(strings).ok()?..usize::try_from(strings.checked_add(size)?).ok()?)?;
    let text = table.get(usize::try_from(list).ok()?..)?;
    let text = &text[..text.iter().position(|&b| b == 0)?];
    Some(text.split(|&b| b == b':').filter(|dir| dir.starts_with(b"/")).take(MAX_DIRS).map(<[u8]>::to_vec).collect())
}

/// The directories that ldconfig(8) of glibc is told of.
///
/// # Errors
/// As reading the files.
pub(crate) fn configured(view: &View) -> Result<Vec<Vec<u8>>> {
    let mut dirs = Vec::new();
    include(view, b"/etc/ld.so.conf", 0, &mut dirs)?;
    Ok(dirs)
}

fn include(view: &View, file: &[u8], depth: usize, dirs: &mut Vec<Vec<u8>>) -> Result<()> {
    let Some(text) = view.read(file, MAX_LIST)? else { return Ok(()) };
    for line in text.split(|&b| b == b'\n') {
        let line = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
        match line.strip_prefix(b"include").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace)) {
            _ if dirs.len() >= MAX_DIRS => return Ok(()),
            Some(patterns) if depth < MAX_DEPTH => {
                for pattern in patterns.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
                    let above = file.rsplitn(2, |&b| b == b'/').nth(1).unwrap_or_default();
                    let pattern = if pattern.starts_with(b"/") { pattern.to_vec() } else { below(above, pattern) };
                    for path in glob(view, &pattern)? {
                        include(view, &path, depth + 1, dirs)?;
                    }
                }
            }
            // Before the type of library, which some old files name.
            None if line.starts_with(b"/") => {
                let dir = line.split(|&b| b == b'=').next().unwrap_or_default();
                let dir = dir.trim_ascii_end();
                dirs.push(dir.strip_suffix(b"/").filter(|dir| !dir.is_empty()).unwrap_or(dir).to_vec());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The directories that musl is told of, in a file that is named after its loader.
pub(crate) fn musl(view: &View, loader: &[u8]) -> Result<Vec<Vec<u8>>> {
    let name = loader.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let name = name.split(|&b| b == b'.').next().unwrap_or_default();
    let text = view.read(&[b"/etc/", name, b".path"].concat(), MAX_LIST)?;
    let text = text.unwrap_or_else(|| b"/lib:/usr/local/lib:/usr/lib".to_vec());
    let dirs = text.split(|&b| b == b'\n' || b == b':').filter(|dir| dir.starts_with(b"/"));
    Ok(dirs.take(MAX_DIRS).map(<[u8]>::to_vec).collect())
}

/// The paths that an absolute pattern names, in order: `*`, `?` and `[]` within a name.
pub(crate) fn glob(view: &View, pattern: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut found = vec![Vec::new()];
    for name in pattern.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
        let matcher = match std::str::from_utf8(name) {
            Ok(text) if text.contains(['*', '?', '[']) => Glob::new(text).ok().map(|glob| glob.compile_matcher()),
            _ => None,
        };
        let mut next = Vec::new();
        for dir in found {
            let Some(matcher) = &matcher else {
                next.push(below(&dir, name));
                continue;
            };
            for entry in view.names(&[&dir[..], b"/"].concat())? {
                let hidden = entry.starts_with(b".") && !name.starts_with(b".");
                if !hidden && std::str::from_utf8(&entry).is_ok_and(|entry| matcher.is_match(entry)) {
                    next.push(below(&dir, &entry));
                }
            }
        }
        found = next;
    }
    let mut there = Vec::new();
    for path in found {
        if view.follow(&path)?.end.is_some() {
            there.push(path);
        }
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Calls, Dir};

    /// Hints with `list`, as wide and in the order that `number` says.
    fn hints(number: &dyn Fn(u64) -> Vec<u8>, list: &[u8]) -> Vec<u8> {
        let width = number(0).len() as u64;
        let fields = [MAGIC, 2, width * 8, 0, width * 8, list.len() as u64 + 2, 0, 1];
        [fields.into_iter().flat_map(number).collect(), vec![0], list.to_vec(), vec![0]].concat()
    }

    #[test]
    fn hints_of_every_machine() {
        let list = b"/usr/lib:/usr/X11R6/lib:relative:/usr/local/lib";
        let kinds: [&dyn Fn(u64) -> Vec<u8>; 4] = [
            &|n| n.to_le_bytes().into(),
            &|n| n.to_be_bytes().into(),
            &|n| u32::try_from(n).unwrap().to_le_bytes().into(),
            &|n| u32::try_from(n).unwrap().to_be_bytes().into(),
        ];
        for number in kinds {
            let data = hints(number, list);
            let dirs = directories(&data).unwrap();
            assert_eq!(dirs, [&b"/usr/lib"[..], b"/usr/X11R6/lib", b"/usr/local/lib"]);
            for length in 0..data.len() {
                assert_eq!(directories(&data[..length]), None, "{length}");
            }
            for at in 0..data.len() {
                for value in [0, 0x7f, 0xff] {
                    let mut damaged = data.clone();
                    damaged[at] = value;
                    directories(&damaged);
                }
            }
        }
    }

    #[test]
    fn what_loaders_are_told() {
        let temp = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = temp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("etc/ld.so.conf", "# mine\n/opt/one/ # why\ninclude ld.so.conf.d/*.conf\n/opt/old=libc5\nhwcap 1 x\n");
        put("etc/ld.so.conf.d/a.conf", "/opt/a\ninclude /etc/ld.so.conf\n");
        put("etc/ld.so.conf.d/.hidden.conf", "/opt/hidden\n");
        put("etc/ld.so.conf.d/b.other", "/opt/b\n");
        put("etc/ld-musl-x86_64.path", "/lib:/opt/musl\n/usr/lib\n");
        let view = View::new(&Dir::open(temp.path(), Calls::Native).unwrap()).unwrap();
        let shown = |dirs: Vec<Vec<u8>>| String::from_utf8(dirs.join(&b' ')).unwrap();
        // A circle ends, by depth.
        assert!(shown(configured(&view).unwrap()).starts_with("/opt/one /opt/a /opt/one"));
        assert!(configured(&view).unwrap().len() <= MAX_DIRS);
        assert_eq!(shown(musl(&view, b"/lib/ld-musl-x86_64.so.1").unwrap()), "/lib /opt/musl /usr/lib");
        assert_eq!(shown(musl(&view, b"/lib/ld-musl-armhf.so.1").unwrap()), "/lib /usr/local/lib /usr/lib");
        assert_eq!(shown(glob(&view, b"/etc/ld*/?.*").unwrap()), "/etc/ld.so.conf.d/a.conf /etc/ld.so.conf.d/b.other");
    }
}
