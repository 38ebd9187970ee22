// SPDX-License-Identifier: ISC
//! Programs that the kernel starts by another one: what is registered in `/proc/sys/fs/binfmt_misc`
//! (Documentation/admin-guide/binfmt-misc.rst).
#![forbid(unsafe_code)]

/// No magic is longer, and none begins later, in bytes.
const MAX_MAGIC: usize = 256;

/// How many bytes of a file are looked at.
pub(super) const HEAD: u64 = 2 * MAX_MAGIC as u64;

/// A kind of program, and what starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The program that starts it, absolute.
    pub interpreter: Vec<u8>,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// By the end of the name, after a dot.
    Extension(Vec<u8>),
    /// By bytes at an offset, as far as the mask has ones.
    Magic(usize, Vec<u8>, Vec<u8>),
}

impl Format {
    /// Reads one entry. None: it is not in force, its interpreter is open already (flag F) and needed by no jail, or it is
    /// malformed.
    pub fn parse(text: &str) -> Option<Format> {
        let mut lines = text.lines();
        if lines.next()? != "enabled" {
            return None;
        }
        let mut found: [Option<&str>; 6] = [None; 6];
        let keys = ["interpreter", "flags:", "extension", "offset", "magic", "mask"];
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            if let Some(at) = keys.iter().position(|known| *known == key) {
                found[at] = Some(value.trim());
            }
        }
        let [interpreter, flags, extension, offset, magic, mask] = found;
        let interpreter = interpreter.filter(|path| path.starts_with('/'))?.as_bytes().to_vec();
        if flags.is_some_and(|flags| flags.contains('F')) {
            return None;
        }
        let what = match (extension, magic) {
            (Some(extension), _) => What::Extension(extension.trim_start_matches('.').as_bytes().to_vec()),
            (None, magic) => {
                let magic = hex(magic?).filter(|magic| !magic.is_empty() && magic.len() <= MAX_MAGIC)?;
                let mask = mask.map_or_else(|| Some(vec![0xff; magic.len()]), hex)?;
                let offset = offset.unwrap_or("0").parse().ok().filter(|&offset| offset <= MAX_MAGIC)?;
                What::Magic(offset, magic, mask)
            }
        };
        Some(Format { interpreter, what })
    }

    /// Is a program of this name, which begins like this, such a one?
    pub fn is(&self, name: &[u8], head: &[u8]) -> bool {
        match &self.what {
            What::Extension(extension) => {
                let end = name.rsplitn(2, |&b| b == b'.').next().filter(|end| end.len() < name.len());
                end == Some(extension.as_slice())
            }
            What::Magic(offset, magic, mask) => {
                let there = head.get(*offset..).and_then(|head| head.get(..magic.len()));
                there.is_some_and(|there| {
                    there.iter().zip(magic).zip(mask).all(|((there, magic), mask)| there & mask == magic & mask)
                })
            }
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2));
    digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_what_they_are_of() {
        let arm = "enabled\ninterpreter /usr/bin/qemu-arm\nflags: OC\noffset 0\nmagic 7f454c46\nmask ffffffff\n";
        let java = "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n";
        for (text, name, head, want) in [
            (arm, "x", &b"\x7fELF and more"[..], true),
            (arm, "x", b"\x7fEL", false),
            (arm, "x", b"#!", false),
            (java, "a.jar", b"", true),
            (java, "jar", b"", false),
            (java, "a.jar.x", b"", false),
            ("enabled\ninterpreter /x\nflags:\noffset 2\nmagic 0f00\nmask 0fff\n", "x", b"..\xff\x00", true),
        ] {
            let format = Format::parse(text).unwrap();
            assert_eq!(format.is(name.as_bytes(), head), want, "{text:?} {name}");
        }
        for bad in [
            "",
            "disabled\ninterpreter /x\nextension .a\n",
            "enabled\ninterpreter x\nextension .a\n",
            "enabled\ninterpreter /x\nflags: F\nextension .a\n",
            "enabled\ninterpreter /x\noffset 99999\nmagic 00\n",
            "enabled\ninterpreter /x\nmagic 0g\n",
            "enabled\ninterpreter /x\nmagic 0\n",
            "enabled\ninterpreter /x\n",
        ] {
            assert_eq!(Format::parse(bad), None, "{bad:?}");
        }
    }
}
