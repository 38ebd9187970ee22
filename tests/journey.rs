// SPDX-License-Identifier: ISC
//! The whole journey of a build chroot: made of the host, cloned, worked in, its result taken out and run; the clone
//! thrown away and the base kept. By root, and by an ordinary user.
//!
//! Needs root and newuidmap(1); where apt reaches no mirror, that part is left out, and said.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "what is left out is said")]

mod common;

use std::fs;

use common::{Said, World, able};

/// Who makes the journey.
struct Traveller {
    world: World,
    /// The command that makes root this user.
    becomes: &'static str,
}

impl Traveller {
    /// In a world with the program, and with an account and ranges for ann.
    fn new(owner: u32, becomes: &'static str) -> Traveller {
        let world = World::new();
        fs::copy(env!("CARGO_BIN_EXE_stockade"), world.path("stockade")).unwrap();
        world.write("work.toml", RECIPE);
        world.write("pow.c", PROGRAM);
        world.sh(&format!(
            "(cat /etc/passwd; echo ann:x:4711:4711::$PWD/ann:/bin/sh) > passwd; (cat /etc/group; echo ann:x:4711:) > group
            echo ann:200000:65536 > subuid; cp subuid subgid; mkdir ann; echo 'KEY=\"from the profile\"' > ann/.profile
            chown -R 4711:4711 ann; chown {owner}:{owner} . tmp; chmod 755 ."
        ));
        Traveller { world, becomes }
    }

    /// What a script ends with and says.
    fn tries(&self, script: &str) -> Said {
        let Traveller { world, becomes } = self;
        world.write("script", script);
        let said = world.sh_apart(&format!(
            "for name in passwd group subuid subgid; do mount --bind $name /etc/$name; done
            {becomes} sh -eu script 2>&1 && s=0 || s=$?; echo; echo $s"
        ));
        let (out, status) = said.trim_end().rsplit_once('\n').unwrap();
        Said { status: status.parse().ok(), out: out.to_owned(), err: String::new() }
    }

    /// A script that must succeed; what it says.
    fn does(&self, script: &str) -> String {
        let said = self.tries(script);
        assert_eq!(said.status, Some(0), "{script}:\n{}", said.out);
        said.out
    }
}

const RECIPE: &str = r#"
extends = "host"

[[source]]
packages = ["gcc", "libc6-dev"]

[[account]]
name = "ann"
home = "/home/ann"
shell = "/bin/sh"
dotfiles = [".profile"]
prompt = "(work) "
"#;

const PROGRAM: &str =
    "#include <stdio.h>\n#include <math.h>\nint main(int n, char **v) { printf(\"%.0f\\n\", pow(n + 1, 5)); }\n";

const RUST: &str =
    "fn main() { println!(\"{}\", std::env::args().skip(1).filter_map(|n| n.parse::<u32>().ok()).sum::<u32>()); }\n";

fn journey(traveller: &Traveller) {
    let world = &traveller.world;
    let doctor = || traveller.does("./stockade doctor | grep -v ^ok || :");
    let before = doctor();
    traveller.does("./stockade build base -f work.toml");
    assert!(traveller.does("./stockade build base").contains("nothing to do"));
    traveller.does("./stockade check base --hash");
    traveller.does("./stockade clone base job");

    // A person with an account, dotfiles and prompt.
    let said = traveller.does("echo 'echo \"$KEY|$(id -un)|$PWD\"' | ./stockade run job -u ann");
    assert!(said.contains("from the profile|ann|/home/ann\n"), "{said}");
    let said = traveller.does("./stockade run job -u ann -- sh -c 'echo \"$PS1|\"'");
    assert!(said.contains("(work) |\n"), "{said}");

    install(traveller);

    // What is made inside runs outside.
    traveller.does(
        "./stockade copy pow.c job:/usr/src/pow.c
        ./stockade run job -- cc -O2 -o /usr/local/bin/pow /usr/src/pow.c -lm",
    );
    assert!(traveller.does("./stockade run job -- pow x y").contains("1024"));
    let said = traveller.does("./stockade copy job:/usr/local/bin/pow pow; ./pow x; ldd pow");
    assert!(said.contains("243") && said.contains("libm.so.6 => /"), "{said}");

    // What the work left is seen in the clone, and not in the base.
    let said = traveller.tries("./stockade check job");
    assert!(said.status == Some(2) && said.out.contains("+ usr/local/bin/pow"), "{said:?}");
    traveller.does("./stockade remove job; ./stockade check base --hash; ./stockade run base -- cc --version");
    assert_eq!(doctor(), before);
    assert!(!world.root("job").exists() && world.root("base").exists());
    traveller.does("./stockade remove base");
    world.assert_tidy();
}

/// Packages of the mirror, with what they need, and what one of them compiles.
fn install(traveller: &Traveller) {
    let said = traveller.tries("./stockade run job -- apt-get -q update");
    if said.status != Some(0) || said.out.contains("Failed to fetch") {
        // The lists of the host stay as they are.
        let lists = "mkdir -p lists/partial; apt-get -q update -o Dir::State::Lists=$PWD/lists --error-on=any >&2";
        let host = traveller.tries(lists);
        assert_ne!(host.status, Some(0), "apt reaches a mirror on the host, but not inside: {}", said.out);
        eprintln!("SKIPPED: nothing is installed, for apt reaches no mirror: {}", said.out);
        return;
    }
    traveller.does(
        "./stockade run job -- env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends hello rustc",
    );
    assert!(traveller.does("./stockade run job -- hello").contains("Hello, world!"));
    assert!(
        traveller
            .does("./stockade run job -- sh -c 'dpkg --verify; apt-get -qq check; dpkg --audit'")
            .trim()
            .is_empty()
    );
    traveller.world.write("sum.rs", RUST);
    let said = traveller.does(
        "./stockade copy sum.rs job:/usr/src/sum.rs
        ./stockade run job -- rustc -O -o /usr/local/bin/sum /usr/src/sum.rs
        ./stockade run job -- sum 40 2; ./stockade copy job:/usr/local/bin/sum sum; ./sum 400 20; ldd sum",
    );
    assert!(["42\n", "420\n", "libc.so.6 => /"].iter().all(|words| said.contains(words)), "{said}");
}

const TOOLS: [&str; 7] = ["apt-get", "dpkg", "gcc", "ldd", "newuidmap", "setpriv", "unshare"];

#[test]
fn by_root() {
    if able(&TOOLS) {
        journey(&Traveller::new(0, ""));
    }
}

#[test]
fn by_an_ordinary_user() {
    if able(&TOOLS) {
        journey(&Traveller::new(4711, "setpriv --reuid 4711 --regid 4711 --clear-groups"));
    }
}
