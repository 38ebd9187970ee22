// SPDX-License-Identifier: ISC
//! Errata: the shapes that were published, and what must not be taken for one.

use super::steps::{Facts, resolve};
use super::*;

const DIFF: &str = "Index: usr.bin/ssh/auth.c
===================================================================
RCS file: /cvs/src/usr.bin/ssh/auth.c,v
retrieving revision 1.112
diff -u -p -r1.112 auth.c
--- usr.bin/ssh/auth.c\t6 Aug 2015 14:53:21 -0000\t1.112
+++ usr.bin/ssh/auth.c\t26 Aug 2015 15:10:30 -0000
@@ -1,2 +1,2 @@
 a
-b
+c
";
const APPLY: &str = "Apply by doing:
    signify -Vep /etc/signify/openbsd-58-base.pub -x 001_sshd.patch.sig \\
        -m - | (cd /usr/src && patch -p0)
";
const SSHD: &str = "And then rebuild and install sshd:
    cd /usr/src/usr.bin/ssh
    make obj
    make
    make install
";

fn facts() -> Facts {
    Facts {
        system: "openbsd".to_owned(),
        machine: "amd64".to_owned(),
        release: "5.8".to_owned(),
        kernel: Some("GENERIC.MP".to_owned()),
        cpus: 4,
    }
}

fn shown(erratum: &Erratum) -> Vec<String> {
    let place = std::str::from_utf8(&erratum.place.0).unwrap();
    let lines = erratum.blocks.iter().flat_map(|block| &block.lines);
    resolve(lines, place, &facts()).unwrap().iter().map(ToString::to_string).collect()
}

fn message(title: &str, apply: &str, steps: &str, diff: &str) -> String {
    format!("\n{title}\n\nWhat is wrong:\n    * a bullet\n      make install\n\n{apply}\n{steps}\n{diff}")
}

/// One line a case: title, block to apply, steps, and what they come to.
#[test]
fn shapes() {
    const KERNEL: [&str; 4] = [
        "/usr/src/sys/arch/amd64/conf: config GENERIC.MP",
        "/usr/src/sys/arch/amd64/compile/GENERIC.MP: make",
        "/usr/src/sys/arch/amd64/compile/GENERIC.MP: make install",
        "",
    ];
    let tabs = APPLY.replace("        -m", "\t-m");
    let kernel = "And then rebuild and install a kernel:
    cd /usr/src/sys/arch/`machine`/conf
    KK=`sysctl -n kern.osversion | cut -d# -f1`
    config $KK
    cd ../compile/$KK
    make
    make install

";
    let later = "And then rebuild and install a new kernel:
\tKK=`sysctl -n kern.osversion | cut -d# -f1`
\tcd /usr/src/sys/arch/$(machine)/compile/$KK
\tmake obj
\tmake config && make; make install
";
    let compile = "/usr/src/sys/arch/amd64/compile/GENERIC.MP";
    let two = format!(
        "{SSHD}\nAnd then rebuild and install\nlibssl, too:\n\n\tcd src/lib/libssl\n\tmake -f Makefile.bsd-wrapper A=\"b c\" obj\n\nNow restart sshd.\n"
    );
    let ssh: Vec<String> = ["make obj", "make", "make install"].map(|c| format!("/usr/src/usr.bin/ssh: {c}")).to_vec();
    let more = [&ssh[..], &["/usr/src/lib/libssl: make -f Makefile.bsd-wrapper A=b c obj".to_owned()]].concat();
    let cases: [(&str, &str, &str, Vec<String>); 6] = [
        ("OpenBSD 5.8 errata 1, Aug 30, 2015:", APPLY, SSHD, ssh.clone()),
        ("OpenBSD 5.8 errata 8, Nov 9, 2015", &tabs, SSHD, ssh.clone()),
        (
            "OpenBSD 5.8 errata 007, February 2nd, 2018:",
            APPLY,
            kernel,
            KERNEL[..3].iter().map(|s| (*s).to_owned()).collect(),
        ),
        (
            "OpenBSD 5.8 errata 12, May 3, 2016:",
            APPLY,
            later,
            ["make obj", "make config", "make", "make install"].map(|c| format!("{compile}: {c}")).to_vec(),
        ),
        ("OpenBSD 5.8 errata 2, May 3, 2016:", APPLY, &two, more),
        (
            "OpenBSD 5.8 errata 3, May 3, 2016:",
            &APPLY.replace("/usr/src", "/usr/xenocara"),
            "Then build and install the server:\n    cd xserver\n    make obj\n",
            vec!["/usr/xenocara/xserver: make obj".to_owned()],
        ),
    ];
    for (title, apply, steps, expect) in cases {
        let text = message(title, apply, steps, DIFF);
        let erratum = parse(text.as_bytes(), true).unwrap_or_else(|error| panic!("{title}: {error}"));
        assert_eq!(shown(&erratum), expect, "{title}");
        let said = erratum.title.unwrap();
        assert_eq!(
            (&*said.release, format!("OpenBSD 5.8 errata {}", said.number)),
            ("5.8", title.split(',').next().unwrap().replace(" 00", " "))
        );
        assert!(erratum.text.contains("a bullet") && !erratum.text.contains("Apply"), "{}", erratum.text);
        assert_eq!(erratum.files, [TreePath::new(*b"usr.bin/ssh/auth.c").unwrap()]);
        assert_eq!(&text[erratum.diff..], DIFF);
        assert_eq!(erratum.note.contains("restart"), steps.contains("restart"));
    }
}

/// One line a case: how it is applied, and where; none if that is not understood.
#[test]
fn ways_to_apply() {
    let key = "/etc/signify/openbsd-58-base.pub";
    for (heading, commands, place) in [
        ("Apply by doing:", format!("signify -Vep {key} -x a.sig -m - | (cd /usr/src && patch -p0)"), Some("/usr/src")),
        (
            "Apply by doing:",
            format!("signify -Vep {key} -x a.sig \\\n\t\t-m - | \\\n  ( cd /usr/src; patch -p0 )"),
            Some("/usr/src"),
        ),
        (
            "Apply patch using:",
            format!("signify -Vep {key} -m - -x a.sig | (cd /usr/xenocara && patch -p1)"),
            Some("/usr/xenocara"),
        ),
        ("Apply by doing:", "cd /usr/src && patch -p0 < 001_sshd.patch".to_owned(), Some("/usr/src")),
        ("Apply by doing:", "cd /usr/src; patch -p0 < 001_sshd.patch".to_owned(), Some("/usr/src")),
        ("Apply by doing:", "cd /usr/src\n    patch -p0 < 001_sshd.patch".to_owned(), Some("/usr/src")),
        ("Apply by doing:", "cd /usr/src\n    patch < 001_sshd.patch".to_owned(), None),
        ("Apply by doing:", "cd /usr/src\n    patch -p0 < a; sh < b".to_owned(), None),
        ("Apply by doing:", format!("signify -Vep {key} -x a.sig -m out | (cd /usr/src && patch -p0)"), None),
        ("Apply by doing:", format!("signify -Vep {key} -x a.sig -m - | (cd /usr/src && patch -p0) && sh"), None),
        ("Apply by doing:", format!("signify -Vep {key} -x a.sig -m - -q | (cd /usr/src && patch -p0)"), None),
        ("Apply by doing:", "signify -x a.sig -m - | (cd /usr/src && patch -p0)".to_owned(), None),
    ] {
        let strip = if commands.contains("-p1") { 1 } else { 0 };
        let diff = if strip == 1 { DIFF.replace("usr.bin", "a/usr.bin") } else { DIFF.to_owned() };
        let text = message("OpenBSD 5.8 errata 1, Aug 30, 2015:", &format!("{heading}\n    {commands}\n"), SSHD, &diff);
        let found = parse(text.as_bytes(), true);
        match (found, place) {
            (Ok(erratum), Some(place)) => assert_eq!(erratum.place, (place.as_bytes().to_vec(), strip), "{commands}"),
            (Err(error), None) => assert!(error.to_string().contains("not understood"), "{commands}: {error}"),
            (found, _) => panic!("{commands}: {found:?}"),
        }
    }
    let twice = message("OpenBSD 5.8 errata 1, Aug 30, 2015:", APPLY, &format!("{APPLY}\n{SSHD}"), DIFF);
    assert!(parse(twice.as_bytes(), true).unwrap_err().to_string().contains("two places"));
}

/// One line a case: what is above the steps, the steps, and what they come to.
#[test]
fn steps_of_all_kinds() {
    let compile = "/usr/src/sys/arch/amd64/compile/GENERIC.MP";
    for (heading, steps, expect) in [
        (
            "And then rebuild and install sshd:",
            "cd usr.bin/ssh;make obj;\nmake",
            &["/usr/src/usr.bin/ssh: make obj", "/usr/src/usr.bin/ssh: make"][..],
        ),
        (
            "Then build and install libcrypto and all that is linked\nstatically with it:",
            "cd src/lib/libcrypto\nmake includes",
            &["/usr/src/lib/libcrypto: make includes"],
        ),
        (
            "Also rebuild it:",
            "cd /usr/src/lib && make -j`sysctl -n hw.ncpufound` && doas make install",
            &["/usr/src/lib: make -j4", "/usr/src/lib: make install"],
        ),
        ("Next, install the headers:", "make -j $(sysctl -n hw.ncpu) includes", &["/usr/src: make -j 4 includes"]),
        (
            "And then rebuild and install the X server:",
            "cd /usr/xenocara/xserver\nmake -f Makefile.bsd-wrapper obj\nmake -f Makefile.bsd-wrapper build",
            &[
                "/usr/xenocara/xserver: make -f Makefile.bsd-wrapper obj",
                "/usr/xenocara/xserver: make -f Makefile.bsd-wrapper build",
            ],
        ),
        (
            "And then rebuild and install a new kernel:",
            "KK=$(sysctl -n kern.osversion | cut -d \"#\" -f 1)\ncd /usr/src/sys/arch/$(machine)/compile/$KK\nmake config",
            &[&*format!("{compile}: make config")],
        ),
        (
            "And then rebuild and install a new kernel:",
            "cd sys/arch/`machine`/compile/`uname -v|cut -f1 -d\\#`\nmake",
            &[&*format!("{compile}: make")],
        ),
        (
            "And then rebuild and install a new kernel:",
            "cd sys/arch/`machine`/compile/`uname -v | cut -f1 -d\\#`\nmake",
            &[&*format!("{compile}: make")],
        ),
        (
            "And then rebuild and install a kernel:",
            "cd sys/arch/`arch -s`/conf\nconfig GENERIC\ncd ../compile/GENERIC\nmake clean && make",
            &[
                "/usr/src/sys/arch/amd64/conf: config GENERIC",
                "/usr/src/sys/arch/amd64/compile/GENERIC: make clean",
                "/usr/src/sys/arch/amd64/compile/GENERIC: make",
            ],
        ),
        (
            "And then rebuild and install it:",
            "make \\\n    SUBDIR=\"a b\" \\\n    all",
            &["/usr/src: make SUBDIR=a b all"],
        ),
        (
            "And then rebuild and install it:",
            "install -c -o root -g bin -m 555 obj/x /usr/libexec/x\nldconfig -R",
            &["/usr/src: install -c -o root -g bin -m 555 obj/x /usr/libexec/x", "/usr/src: ldconfig -R"],
        ),
        // What nobody understands is never passed over.
        ("And then rebuild and install it:", "make install\nreboot", &[]),
        ("And then rebuild and install it:", "make install\n/usr/libexec/reorder_kernel", &[]),
        ("And then rebuild and install it:", "doas -u build make", &[]),
        ("And then rebuild and install it:", "make -j`nproc`", &[]),
    ] {
        let steps = format!("{heading}\n    {}\n", steps.replace('\n', "\n    "));
        let text = message("OpenBSD 5.8 errata 1, Aug 30, 2015:", APPLY, &steps, DIFF);
        match parse(text.as_bytes(), true) {
            Ok(erratum) => assert_eq!(shown(&erratum), expect, "{steps}"),
            Err(error) => assert!(expect.is_empty() && error.advice().is_some(), "{steps}: {error}"),
        }
    }
}

#[test]
fn the_old_form_has_no_title() {
    let text = format!(
        "Apply by doing:\n\tcd /usr/src\n\tpatch -p0 < 001_httpd.patch\n\nAnd then rebuild and install httpd:\n\tcd usr.sbin/httpd
\tmake -f Makefile.bsd-wrapper cleandir\n\tmake -f Makefile.bsd-wrapper obj\n\tmake -f Makefile.bsd-wrapper install\n\n{DIFF}"
    );
    let erratum = parse(text.as_bytes(), false).unwrap();
    assert_eq!((erratum.title.as_ref(), erratum.place.clone()), (None, (b"/usr/src".to_vec(), 0)));
    let expect = ["cleandir", "obj", "install"]
        .map(|target| format!("/usr/src/usr.sbin/httpd: make -f Makefile.bsd-wrapper {target}"));
    assert_eq!(shown(&erratum), expect);
    assert!(parse(text.as_bytes(), true).unwrap_err().to_string().contains("no title"));
}

/// What each line is to be refused for.
#[test]
fn steps_that_are_refused() {
    for (line, why) in [
        ("rm -rf /", "an unknown command"),
        ("sh evil", "an unknown command"),
        ("./make", "an unknown command"),
        ("/bin/make", "an unknown command"),
        ("make `id`", "an unknown command in backticks"),
        ("make $(curl x)", "an unknown command in backticks"),
        ("make `machine", "does not end"),
        ("`machine`", "a command that is made up"),
        ("$KK", "a command that is made up"),
        ("A=b make", "an unknown command"),
        ("make > /etc/passwd", "more of the shell's"),
        ("make < x", "more of the shell's"),
        ("make | sh", "more of the shell's"),
        ("make & sh", "more of the shell's"),
        ("make *", "more of the shell's"),
        ("make ~", "more of the shell's"),
        ("make \\x", "more of the shell's"),
        ("(make)", "more of the shell's"),
        ("make 'a", "does not end"),
        ("make \"a", "does not end"),
        ("make \"a\\n\"", "a backslash"),
        ("make ${", "does not end"),
        ("make $", "without a name"),
        ("make ${a b}", "without a name"),
        ("make && ", ""),
        ("&& make", "an empty command"),
        ("make ;; make", "an empty command"),
        ("make -C /etc", "an unknown option of make"),
        ("make -I/x", "an unknown option of make"),
        ("make --eval=x", "an unknown option of make"),
        ("cd", "an unknown command"),
        ("cd a b", "an unknown command"),
        ("make \x1b[2J", "an odd line"),
        ("", "nothing"),
        ("# make", "more of the shell's"),
    ] {
        match Line::parse(line) {
            Ok(_) => assert_eq!(why, "", "{line}"),
            Err(error) => assert!(!why.is_empty() && error.to_string().contains(why), "{line}: {error}"),
        }
    }
    let long = format!("make {}", "x".repeat(5000));
    assert!(Line::parse(&long).is_err());
    let lines = |text: &[&str]| text.iter().map(|line| Line::parse(line).unwrap()).collect::<Vec<_>>();
    let run = |text: &[&str], facts: &Facts| {
        resolve(lines(text).iter(), "/usr/src", facts)
            .map(|steps| steps.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert!(run(&["make $X"], &facts()).unwrap_err().to_string().contains("$X was given no value"));
    let unsaid = Facts { kernel: None, ..facts() };
    let error = run(&["KK=`sysctl -n kern.osversion | cut -d# -f1`"], &unsaid).unwrap_err();
    assert!(error.advice().unwrap().contains("--kernel"));
    assert_eq!(run(&["cd ../../../../../etc", "make"], &facts()).unwrap(), ["/etc: make"]);
    assert!(run(&["cd `uname -r`/${K}x"], &facts()).is_err());
    assert_eq!(
        run(&["K=`uname -r`", "cd \"$K\"/x-${K}", "make K=$K"], &facts()).unwrap(),
        ["/usr/src/5.8/x-5.8: make K=5.8"]
    );
}

#[test]
fn what_is_no_erratum() {
    let title = "OpenBSD 5.8 errata 1, Aug 30, 2015:";
    let good = message(title, APPLY, SSHD, DIFF);
    let change = |from: &str, to: &str| good.replacen(from, to, 1);
    for (text, why) in [
        (String::new(), "no diff"),
        (DIFF.to_owned(), "no title"),
        (change("OpenBSD 5.8", "FreeBSD 5.8"), "no title"),
        (change("errata 1,", "errata 0,"), "no title"),
        (change("errata 1,", "errata 1000,"), "no title"),
        (change("5.8 errata", "5.8.1 errata"), "no title"),
        (change("openbsd-58-base", "openbsd-59-base"), "of two releases"),
        (change("openbsd-58-base", "openbsd-58-pkg"), "of two releases"),
        (change("Apply by doing", "Do"), "how to apply"),
        (change("| (cd /usr/src && patch -p0)", "| sh"), "not understood"),
        (change("(cd /usr/src &&", "(cd usr/src &&"), "not understood"),
        (change("(cd /usr/src &&", "(cd /usr/../etc &&"), "\"..\""),
        (change("patch -p0", "patch -p0 -e"), "not understood"),
        (change("patch -p0", "patch -p99"), "not understood"),
        (change("And then rebuild and install sshd:", "And then:"), "what to do after"),
        (change("    make\n", "    make\nsh\n"), "not indented"),
        (good.replace("    make install\n", "    make install \\\n"), "does not end"),
        (change("    make\n", "    reboot\n"), "unknown command"),
        (change("What is wrong", "\u{1b}[31m"), "control characters"),
        (change("--- usr.bin", "--- ../usr.bin"), "leads out"),
        (change("Index: usr.bin/ssh/auth.c", "Index: /etc/passwd"), "leads out"),
        (change("Index: usr.bin/ssh/auth.c", "Index: usr.bin/ssh/other.c"), "not what it changes"),
        (change("+++ usr.bin/ssh/auth.c", "+++ usr.bin/ssh/evil.c"), "two names"),
        (change("+++ usr.bin", "*** usr.bin"), "not unified"),
        (change("@@ -1,2 +1,2 @@", "@@ -1,9 +1,2 @@"), "malformed hunk"),
        (change("@@ -1,2 +1,2 @@", "@@ -1,x +1,2 @@"), "malformed hunk"),
        (change("@@ -1,2 +1,2 @@", "@@ -1,18446744073709551616 +1,2 @@"), "malformed hunk"),
        (change("@@ -1,2 +1,2 @@\n a\n-b\n+c\n", ""), "without a change"),
        (change("+c\n", "+c\n1d\n!id\n.\n"), "belongs to no diff"),
        (good.clone() + "1,5c\n!sh\n", "belongs to no diff"),
        (good.clone() + "*** a\n--- b\n", "belongs to no diff"),
        (good.replace("What is wrong", &"x\n".repeat(3000)), "too long"),
    ] {
        let error = parse(text.as_bytes(), true).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    // Cut anywhere, damaged anywhere: refused or read, never worse.
    for at in 0..good.len() {
        let _ = parse(&good.as_bytes()[..at], true);
        let mut damaged = good.clone().into_bytes();
        damaged[at] ^= 0x15;
        let _ = parse(&damaged, true);
    }
}

#[test]
fn new_and_deleted_files_and_bare_diffs() {
    let diff = "diff --git a/x/new b/x/new\nnew file mode 100644\nindex 000..111\n--- /dev/null\n+++ b/x/new\n@@ -0,0 +1 @@\n+n\n\\ No newline at end of file
--- a/x/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-o\n";
    let lines = ["make".to_owned()];
    let erratum = plain(diff.as_bytes(), (b"/usr/src".to_vec(), 1), &lines).unwrap();
    assert_eq!(erratum.files.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x/new", "x/old"]);
    assert_eq!(shown(&erratum), ["/usr/src: make"]);
    assert!(plain(diff.as_bytes(), (b"/usr/src".to_vec(), 3), &lines).is_err());
    assert!(plain(b"nothing", (b"/usr/src".to_vec(), 0), &lines).is_err());
}

/// The ones that were published, if they are at hand.
#[test]
fn real_errata() {
    let Some(dir) = crate::test_data::test_data("errata/5.8") else { return };
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let ssh = ["usr.bin/ssh: make obj", "usr.bin/ssh: make depend", "usr.bin/ssh: make", "usr.bin/ssh: make install"];
    let at = |dir: &str| ssh.map(|step| format!("/usr/src/{}", step.replace("usr.bin/ssh", dir))).to_vec();
    let kernel: Vec<String> =
        ["conf: config GENERIC.MP", "compile/GENERIC.MP: make", "compile/GENERIC.MP: make install"]
            .map(|step| format!("/usr/src/sys/arch/amd64/{step}"))
            .to_vec();
    let expect = [
        (1, "Aug 30, 2015", at("usr.bin/ssh"), 1),
        (2, "Aug 30, 2015", at("lib/libssl"), 1),
        (4, "Oct 1, 2015", at("usr.sbin/smtpd"), 8),
        (5, "Oct 14, 2015", kernel.clone(), 1),
        (8, "Nov 9, 2015", kernel, 1),
        (10, "Jan 14, 2016", at("usr.bin/ssh"), 2),
    ];
    assert_eq!(names.len(), expect.len());
    for (path, (number, date, steps, files)) in names.iter().zip(expect) {
        let signed = std::fs::read(path).unwrap();
        let text = signed.splitn(3, |&b| b == b'\n').nth(2).unwrap();
        let erratum = parse(text, true).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let title = Title { release: "5.8".to_owned(), number, date: date.to_owned() };
        assert_eq!((erratum.title.as_ref(), shown(&erratum)), (Some(&title), steps), "{}", path.display());
        assert_eq!(
            (erratum.place.clone(), erratum.files.len()),
            ((b"/usr/src".to_vec(), 0), files),
            "{}",
            path.display()
        );
    }
}
