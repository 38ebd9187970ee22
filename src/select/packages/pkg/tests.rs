// SPDX-License-Identifier: ISC
//! Small made-up databases.

use std::path::Path;

use super::*;
use crate::select::packages::{Database, FileOptions};
use crate::sys::Calls;
use crate::watch::Watch;

const ZERO: &str = "@sha AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// What a list says, in one line; or what is wrong with it.
fn read(list: &str) -> String {
    match PackingList::parse(list.as_bytes()) {
        Err(error) => error.to_string(),
        Ok(list) => {
            let item = |item: &contents::Item| match &item.what {
                What::File(seal) => {
                    let has = |is: bool, mark: &str| if is { mark.to_owned() } else { String::new() };
                    let marks = has(seal.digest.is_some(), "#") + &has(seal.size.is_some(), "=");
                    format!("{}{marks}{}", item.path, seal.time.map(|t| format!("@{t}")).unwrap_or_default())
                }
                What::Directory => format!("{}/", item.path),
                What::Sample(of) => format!("{}<{of}", item.path),
            };
            let mut words: Vec<String> = list.items.iter().map(item).collect();
            words.extend(list.has_commands.then(|| "!".to_owned()));
            words.extend(list.users.iter().map(|name| format!("u:{name}")));
            words.extend(list.groups.iter().map(|name| format!("g:{name}")));
            words.extend(list.unknown.iter().map(|word| format!("?{word}")));
            words.join(" ")
        }
    }
}

#[test]
fn lists() {
    for (list, want) in [
        ("", ""),
        ("a\nb/", "bin/a bin/b/"),
        ("@bin a\n@lib liba.so.1.0\n@man man/man1/a.1", "bin/a bin/liba.so.1.0 bin/man/man1/a.1"),
        ("@dir d\n@mandir man/\n@info i/", "bin/d/ bin/man/ bin/i/"),
        ("a\n@sha X\n", "line 4: not a sha: X"),
        (&format!("a\n{ZERO}\n@size 3\n@ts 17\nb"), "bin/a#=@17 bin/b"),
        ("a\n@symlink /etc/passwd\nb\n@link /usr/local/a", "bin/a bin/b"),
        ("a\n@sample /etc/a.conf\n@sample /etc/a.d/\n@size 3", "bin/a= etc/a.conf<bin/a etc/a.d/"),
        ("d/\n@sample /etc/x", "line 4: a sample of no file: /etc/x"),
        ("@rcscript /etc/rc.d/x\n@size 3", "etc/rc.d/x="),
        ("@extra /etc/x/key\n@extraglob /var/x/*\n@ghost g", ""),
        ("@exec true\n@owner _x\n@mode 4555\na\n@mode", "bin/a !"),
        ("@newgroup _b:601\n@newuser _a:600:_b:daemon:A:/var/empty:/sbin/nologin\na", "bin/a u:_a g:_b"),
        ("@newuser a b:1", "line 3: no name of an account: a b"),
        ("@newuser", "line 3: no name of an account: "),
        ("@newgroup ../x:1", "line 3: no name of an account: ../x"),
        ("@newgroup \u{e9}:1", "line 3: no name of an account: "),
        ("@newthing x\nfile name with blanks", "bin/file name with blanks ?newthing"),
        ("@file @odd", "bin/@odd"),
        ("@cwd /usr/local/\na//b/./c", "usr/local/a/b/c"),
        // Nobody leaves the root, or lists the root.
        ("/etc/passwd", "line 3: an absolute name: /etc/passwd"),
        ("@bin /bin/sh", "line 3: an absolute name: /bin/sh"),
        ("../../etc/passwd", "line 3: ../../etc/passwd"),
        ("@sample ../x", "line 3: ../x"),
        ("@cwd /..", "line 3: /.."),
        ("@cwd /\n@dir .", "line 4: a file without a name"),
        ("a\n@size -1", "line 4: not a size: -1"),
        ("a\n@size 99999999999999999999", "line 4: not a size: 99999999999999999999"),
        ("a\n@ts 1.5", "line 4: not a ts: 1.5"),
        ("@name b-2", "line 3: a second @name"),
    ] {
        let said = read(&format!("@name a-1\n@cwd /bin\n{list}"));
        assert!(if want.starts_with("line") { said.starts_with(want) } else { said == want }, "{list}: {said}");
    }
    for (list, want) in [
        ("", "no packing list: it has no @name"),
        ("@name a-1\nbin/a", "line 2: a file before @cwd: bin/a"),
        ("@name a-1\n+DESC\n@sha x", ""),
        ("@name a/../b", "line 1: no name of a package: a/../b"),
        ("@name", "line 1: no name of a package: "),
        ("@name a\u{e9}", "line 1: no name of a package: "),
    ] {
        assert!(read(list).starts_with(want), "{list}: {}", read(list));
    }
}

#[test]
fn names_are_taken_apart() {
    for (name, stem, version) in [
        ("bash-5.2.37", "bash", "5.2.37"),
        ("gettext-runtime-0.22.5", "gettext-runtime", "0.22.5"),
        ("vim-9.1.1706-gtk3-perl", "vim", "9.1.1706-gtk3-perl"),
        ("py3-a2-1.0p0", "py3-a2", "1.0p0"),
        (".libs-a-1", ".libs-a", "1"),
        ("odd", "odd", ""),
    ] {
        assert_eq!(split(name), (stem, version));
    }
}

/// A system with a database: packages as `(name, what they require, list)`, and files.
fn system(packages: &[(&str, &str, &str)], files: &[(&str, &str)]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = temp.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (name, requires, list) in packages {
        write(&format!("{DATABASE}/{name}/+CONTENTS"), &format!("@name {name}\n@cwd /usr/local\n{list}\n"));
        if !requires.is_empty() {
            write(&format!("{DATABASE}/{name}/+REQUIRING"), requires);
        }
    }
    files.iter().for_each(|(path, text)| write(path, text));
    temp
}

fn open(root: &Path) -> Pkg {
    match Database::open(&Dir::open(root, Calls::Native).unwrap()).unwrap() {
        Database::Pkg(pkg) => pkg,
        other @ Database::Dpkg(_) => panic!("{other:?}"),
    }
}

#[test]
fn what_is_required_comes_too() {
    let packages = [
        ("bash-5.2", "gettext-1.0\n.libs-z-1\n\n", ""),
        ("gettext-1.0", "bash-5.2\n", ""),
        (".libs-z-1", "", ""),
        ("curl-8", "gone-1\n", ""),
        ("python-2.7", "", ""),
        ("python-3.12", "", ""),
        ("partial-git-2", "", ""),
    ];
    let temp = system(&packages, &[(&format!("{DATABASE}/.lock"), ""), (&format!("{DATABASE}/file"), "")]);
    let pkg = open(temp.path());
    for (names, want) in [
        (&["bash"][..], ".libs-z-1 bash-5.2 gettext-1.0"),
        (&["gettext-1.0", "bash"], ".libs-z-1 bash-5.2 gettext-1.0"),
        (&[], ""),
        (&["python-2.7"], "python-2.7"),
        (&["python"], "several packages are called python; name one of python-2.7, python-3.12"),
        (&["curl"], "var/db/pkg: curl-8 requires gone-1, which is not installed; mend it there: pkg_check"),
        (&["bas"], "package bas is not installed; did you mean bash?"),
        (&["nothing-like-it"], "package nothing-like-it is not installed; pkg_add nothing-like-it"),
        (&["git"], "the installation of git was interrupted; finish it: pkg_add git"),
        (
            &["@base"],
            "the base of OpenBSD is no package; take it from sets, or by locate; the recipe openbsd-host does: -f openbsd-host",
        ),
    ] {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let said = match pkg.closure(&names) {
            Ok(found) => found.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => format!("{error}; {}", error.advice().unwrap_or_default()),
        };
        assert_eq!(said, want, "{names:?}");
    }
    let chosen = pkg.closure(&["gettext".to_owned()]).unwrap();
    let shown: Vec<String> =
        pkg.required_by(&chosen).unwrap().iter().map(|(path, text)| format!("{path}: {text}")).collect();
    assert_eq!(
        shown.concat(),
        "var/db/pkg/.libs-z-1/+REQUIRED_BY: bash-5.2\n\
        var/db/pkg/bash-5.2/+REQUIRED_BY: gettext-1.0\nvar/db/pkg/gettext-1.0/+REQUIRED_BY: bash-5.2\n"
    );
}

#[test]
fn files_are_as_the_package_brought_them_or_named() {
    // SHA-256 of "x".
    let x = "@sha LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=\n@size 1";
    let list = format!(
        "@bin bin/a\n{x}\n@ts 5\n@bin bin/b\n{x}\n@ts 5\nbin/c\n@size 1\n{x}\nbin/gone\n@size 1\n\
        share/ex/\nshare/ex/a.conf\n{x}\n@sample /etc/a.conf\nshare/ex/b.conf\n@sample /etc/b.conf\n@sample /etc/a.d/\n\
        @sample /etc/never\nshare/ex/shadow\n@sample /etc/shadow\n@extra /etc/a.key\n@exec true"
    );
    let files = [
        ("usr/local/bin/a", "x"),
        ("usr/local/bin/b", "y"),
        ("usr/local/bin/c", "xx"),
        ("usr/local/share/ex/a.conf", "x"),
        ("usr/local/share/ex/b.conf", "x"),
        ("usr/local/share/ex/shadow", "x"),
        ("etc/a.conf", "x"),
        ("etc/b.conf", "edited"),
        ("etc/a.d/x", "x"),
        ("etc/shadow", "x"),
        ("etc/a.key", "secret"),
        ("var/db/pkg/a-1/+DESC", "a"),
        ("var/db/pkg/a-1/+REQUIRED_BY", "b-1"),
    ];
    let temp = system(&[("a-1", "", &list)], &files);
    let pkg = open(temp.path());
    let chosen = pkg.closure(&["a".to_owned()]).unwrap();
    let take = |modified_conffiles| pkg.files(&chosen, FileOptions { modified_conffiles }, &Watch::default()).unwrap();
    let found = take(false);
    let shown = |entry: &crate::select::packages::Selected| {
        assert_eq!(&*entry.origin, "a 1");
        let from = if entry.host == entry.path { String::new() } else { format!("<{}", entry.host) };
        format!("{}{from}", entry.path)
    };
    assert_eq!(
        found.entries.iter().map(shown).collect::<Vec<_>>(),
        [
            "etc/a.conf",
            "etc/a.d",
            "etc/b.conf<usr/local/share/ex/b.conf",
            "usr/local/bin/a",
            "usr/local/bin/b",
            "usr/local/bin/c",
            "usr/local/share/ex",
            "usr/local/share/ex/a.conf",
            "usr/local/share/ex/b.conf",
            "usr/local/share/ex/shadow",
            "var/db/pkg/a-1/+CONTENTS",
            "var/db/pkg/a-1/+DESC",
        ]
    );
    assert_eq!(
        found.notes(),
        [
            "etc/shadow: may hold a secret, left out (a 1)",
            "usr/local/bin/b: changed on the host, taken as it is there",
            "usr/local/bin/c: changed on the host, taken as it is there",
            "usr/local/bin/gone: missing on the host (a 1)",
            "not run: commands of the installation of a-1",
        ]
    );
    assert!(take(true).entries.iter().any(|e| e.path.as_bytes() == b"etc/b.conf" && e.path == e.host));
    let paths = [&b"usr/local/bin/a"[..], b"etc/b.conf", b"usr/local/share/ex", b"bin/sh"].into();
    let owners = pkg.owners(&paths).unwrap();
    let owners: Vec<String> = owners.iter().map(|(path, (name, version))| format!("{path} {name} {version}")).collect();
    assert_eq!(owners, ["etc/b.conf a 1", "usr/local/bin/a a 1"]);
    // The list of another package, or none, is a damaged database.
    for damage in ["@name b-1\n", "\u{0}"] {
        std::fs::write(temp.path().join("var/db/pkg/a-1/+CONTENTS"), damage).unwrap();
        let error = pkg.files(&chosen, FileOptions::default(), &Watch::default()).unwrap_err();
        assert!(error.to_string().starts_with("var/db/pkg/a-1/+CONTENTS: "), "{error}");
    }
}
