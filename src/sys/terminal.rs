// SPDX-License-Identifier: ISC
//! The terminal, where something is typed that nobody must see; the system's random bytes; and giving up root.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

/// The longest line that is read.
const MAX_LINE: usize = 1024;
/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// Asks on the controlling terminal for a line that is not shown; without its newline. None if the user typed Ctrl-C or
/// ended the input.
///
/// While it is typed Ctrl-C is no signal but ends the line, so that the terminal is always put right again.
///
/// # Errors
/// As open(2) on `/dev/tty`, tcsetattr(3), read(2).
pub fn ask_hidden(prompt: &str) -> io::Result<Option<Vec<u8>>> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let was = tcgetattr(&terminal)?;
    let mut hidden = was.clone();
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ECHOK | LocalModes::ISIG);
    hidden.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
    hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
    terminal.write_all(prompt.as_bytes())?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let line = read_line(&mut terminal);
    tcsetattr(&terminal, OptionalActions::Flush, &was)?;
    let line = line?;
    if line.is_none() {
        terminal.write_all(b"\n")?;
    }
    Ok(line)
}

fn read_line(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::with_capacity(MAX_LINE); // never moved: no copy of it stays behind
    let mut byte = [0];
    while line.len() < MAX_LINE {
        match from.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte[0] == INTERRUPT => return Ok(None),
            Ok(_) if byte[0] == b'\n' => return Ok(Some(line)),
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "the line is too long"))
}

/// Random bytes for keys.
///
/// # Errors
/// As getentropy(2).
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the pointer and the length are those of `bytes`, which outlives the call.
    match unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), N) } {
        0 => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Becomes an account that is nobody's, for good: no other groups, and no program that would give anything back.
///
/// # Errors
/// As setgroups(2), setresgid(2), setresuid(2).
pub fn become_nobody(uid: u32, gid: u32) -> io::Result<()> {
    let done = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: these take numbers, and a list without entries.
    unsafe {
        done(libc::setgroups(0, std::ptr::null()))?;
        done(libc::setresgid(gid, gid, gid))?;
        done(libc::setresuid(uid, uid, uid))?;
    }
    super::platform::forbid_privileges()
}
