// SPDX-License-Identifier: ISC
use std::path::Path;

use super::*;
use crate::error::{Error, ErrorKind};

fn failure(text: &str) -> Error {
    match parse(text, "/r/bad.toml") {
        Err(error) => error,
        Ok(recipe) => panic!("accepted: {text:?} as {recipe:?}"),
    }
}

/// One bad recipe a line: where, what, and what mends it.
#[test]
fn bad_recipes_are_refused_with_their_place() {
    let source = "[[source]]\n";
    for (text, want) in [
        // not TOML, or not of its types
        ("devices = ", "1:11: string values must be quoted, expected literal string"),
        ("a = 1\na = 2", "2:1: duplicate key"),
        ("etc = \"hosts\"", "1:7: invalid type: string \"hosts\", expected a sequence"),
        ("etc = [1]", "1:8: invalid type: integer `1`, expected a string"),
        ("[environment]\nA = 1", "2:5: invalid type: integer `1`, expected a string"),
        ("[[account]]\nhome = \"/\"", "1:1: missing field `name`"),
        // unknown words
        ("packges = [\"vim\"]", "1:1: unknown key \"packges\"; known: "),
        ("devicse = \"std\"", "1:1: unknown key \"devicse\"; did you mean `devices`?"),
        ("devices = \"usual\"", "1:11: unknown value \"usual\"; known: std, all, none"),
        ("net = \"off\"", "1:7: unknown value \"off\"; known: host, none"),
        ("[policy]\nunknown = \"kep\"", "2:11: unknown value \"kep\"; did you mean `keep`?"),
        ("[policy]\nvoltile = []", "2:1: unknown key \"voltile\"; did you mean `volatile`?"),
        ("[[source]]\narchiv = \"x\"", "2:1: unknown key \"archiv\"; did you mean `archive`?"),
        ("actions = [\"-ldconfg\"]", "1:12: unknown action \"ldconfg\"; did you mean `ldconfig`?"),
        ("extends = \"hots\"", "1:11: unknown recipe \"hots\"; did you mean `host`?; a file is named"),
        // sources
        (source, "1:1: a source is exactly one of archive, directory, sets, locate and packages"),
        ("[[source]]\narchive = \"a\"\ndirectory = \"b\"", "1:1: a source is exactly one of"),
        ("[[source]]\narchive = \"\"", "2:11: a path is wanted"),
        ("[[source]]\ndirectory = \"/\"\nlist = \"SHA256\"", "3:8: a checksum list belongs to an archive"),
        ("[[source]]\narchive = \"a\"\nkey = \"k\"", "3:7: a key needs the checksum list that it signed"),
        ("[[source]]\narchive = \"a\"\nlist = \"SHA256.sig\"", "3:8: a signed list needs the key"),
        ("[[source]]\narchive = \"a\"\ninto = \"../b\"", "3:8: \"..\" in a path"),
        ("[[source]]\narchive = \"a\"\ninto = \"/\"", "3:8: the root itself cannot be named here"),
        ("[[source]]\narchive = \"a\"\nwithout = [\"b\"]", "1:1: without belongs to a directory"),
        ("[[source]]\ndirectory = \"a\"\nwithout = [\"**\"]", "3:12: the pattern covers the whole"),
        ("[[make]]\npath = \"a\"\nlink = \"b\"\nbelow = true", "1:1: below belongs to a directory"),
        ("[[source]]\npackages = [\"vim\"]\ninto = \"x\"", "3:8: packages are always laid into the root"),
        ("[[source]]\narchive = \"a\"\nmodified_conffiles = \"skip\"", "3:22: modified_conffiles belongs to packages"),
        ("[[source]]\npackages = []\n[[source]]\npackages = []", "3:1: packages are named by two sources"),
        ("[[source]]\npackages = [\"Vim\"]", "2:13: \"Vim\" is no package name"),
        ("[[source]]\npackages = [\"vim\", \"../x\"]", "2:20: \"../x\" is no package name"),
        ("[[source]]\npackages = [\"@bas\"]", "2:13: unknown group \"@bas\"; did you mean `@base`?"),
        ("[[source]]\npackages = [\"-vim\"]", "2:13: nothing to take away: \"vim\" is not in the list"),
        ("[[source]]\nsets = [\"base\"]", "1:1: sets need the directory in which they lie"),
        ("[[source]]\nsets = [\"base77\"]\ndirectory = \"d\"", "2:9: \"base77\" is no name of a set"),
        ("[[source]]\nsets = [\"base\"]\narchive = \"d\"", "1:1: a source is exactly one of"),
        ("[[source]]\nlocate = [\"\"]", "2:11: a path is wanted"),
        ("[[source]]\nlocate = [\"a\"]\nkey = \"k\"", "3:7: a key needs the checksum list that it signed"),
        ("[[source]]\narchive = \"a\"\nunsigned = true", "3:12: unsigned belongs to sets"),
        ("release = \"78\"", "1:11: a release is two numbers"),
        // what is made
        ("[[make]]\npath = \"/\"\ntext = \"x\"", "2:8: the root itself cannot be named here"),
        ("[[make]]\npath = \"\"", "2:8: a path is wanted; the root is \"/\""),
        ("[[make]]\npath = \"a\"\ntext = \"\"\nlink = \"b\"", "1:1: it is a file or a link, not both"),
        ("[[make]]\npath = \"a\"\nmode = \"0999\"", "3:8: \"0999\" is no mode"),
        ("[[make]]\npath = \"a\"\nmode = \"17777\"", "3:8: \"17777\" is no mode"),
        ("[[make]]\npath = \"a\"\nowner = \"a b\"", "3:9: \"a b\" is no account name"),
        // files of /etc
        ("etc = [\"shadow\"]", "1:8: /etc/shadow is never taken from the host; accounts are merged"),
        ("etc = [\"ssh\"]", "1:8: /etc/ssh is never taken from the host"),
        ("etc = [\"ssh/ssh_host_rsa_key\"]", "1:8: /etc/ssh/ssh_host_rsa_key is a secret of the host"),
        ("etc = [\"ssl/private/a.key\"]", "1:8: /etc/ssl/private/a.key is a secret of the host"),
        ("etc = [\"/etc/hosts\"]", "1:8: names are taken below /etc; write \"hosts\""),
        ("etc = [\"../root/.ssh\"]", "1:8: \"..\" in a path"),
        ("etc = [\"\"]", "1:8: the root itself"),
        // patterns
        ("[policy]\nkeep = [\"[a\"]", "2:9: bad pattern \"[a\""),
        ("[policy]\nkeep = [\"/\"]", "2:9: the pattern covers the whole chroot"),
        ("[policy]\nvolatile = [\"**\"]", "2:13: the pattern covers the whole chroot"),
        ("replace = [\"a/../b\"]", "1:12: \"..\" in a path"),
        ("nested = [\"a\\u0000\"]", "1:11: NUL byte in a path"),
        // accounts and the environment
        ("[[account]]\nname = \"a:b\"", "2:8: \"a:b\" is no account name"),
        ("[[account]]\nname = \"\"", "2:8: \"\" is no account name"),
        ("[[account]]\nname = \"a\"\nshell = \"sh\"", "3:9: an absolute path without colons is wanted"),
        ("[[account]]\nname = \"a\"\nhome = \"/a\\nb\"", "3:8: an absolute path without colons is wanted"),
        ("[[account]]\nname = \"a\"\ndotfiles = [\"../b\"]", "3:13: \"..\" in a path"),
        ("[environment]\n\"A=B\" = \"c\"", "2:1: \"A=B\" is no name of a variable"),
        ("[environment]\nA = \"a\\u0000\"", "2:5: NUL byte in a value"),
        // columns count characters
        ("etc = [\"ü\", \"ssh\"]", "1:13: /etc/ssh is never taken"),
    ] {
        let error = failure(text);
        let shown = format!("{error}; {}", error.advice().unwrap_or_default());
        assert!(shown.starts_with(&format!("/r/bad.toml:{want}")), "{text:?}\n wanted {want}\n got    {shown}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{text:?}");
        assert!(error.lines().is_some_and(|lines| lines.contains('^')), "{text:?}: {:?}", error.lines());
    }
}

#[test]
fn the_excerpt_marks_the_text() {
    let error = failure("# first\netc = [\"hosts\", \"shadow\"]\n");
    assert_eq!(error.lines().unwrap(), "  |\n2 | etc = [\"hosts\", \"shadow\"]\n  |                 ^^^^^^^^");
}

/// Wherever a text is cut or spoilt, it is read or refused with its place; the marks never fall beside the text.
#[test]
fn spoilt_recipes_are_refused_with_their_place() {
    let whole = "# ü\r\nextends = \"host\"\r\netc = [\"-hosts\", 'motd']\r\n[policy]\nkeep = [\"\"\"a\nb\"\"\"]\n\
                 [[source]]\narchive = \"ä\"\n[[account]]\nname = \"x\"\nenvironment = { A = \"1\", \"B\" = '' }\n";
    let mut refused = 0;
    let mut check = |text: &str| {
        if let Err(error) = parse(text, "/r/x.toml") {
            assert!(error.path().is_some_and(|path| path.starts_with(b"/r/x.toml:")), "{text:?}: {error}");
            let shown = format!("{error}\n{}", error.lines().unwrap());
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}: {shown:?}");
            refused += 1;
        }
    };
    assert!(parse(whole, "/r/x.toml").is_ok());
    for (at, _) in whole.char_indices() {
        check(&whole[..at]);
        check(&whole[at..]);
        for odd in [
            "\"", "'", "\n", "\r", "\0", "\u{1b}", "\u{feff}", "\u{202e}", "\u{2028}", "=", "[", "]]", "{", "\\u", "-",
            "\t日本",
        ] {
            check(&format!("{}{odd}{}", &whole[..at], &whole[at..]));
        }
    }
    assert!(refused > 1000);
}

#[test]
fn a_whole_recipe_reads_as_data_and_survives_being_written() {
    let text = r#"
        description = "ports"
        prompt = "ports$ "
        etc = ["resolv.conf", "ssh/ssh_config"]
        nested = ["./var/sysmerge/etc.tgz"]
        replace = ["/usr/lib"]
        devices = "none"
        net = "none"
        actions = ["-ldconfig", "-dpkg", "+dpkg"]
        environment = { LANG = "C", "_X1" = "" }
        [policy]
        unknown = "keep"
        keep = ["etc/hostname", "home/*"]
        volatile = ["var/log", "**/*.pyc"]
        [[source]]
        archive = "base.tgz"
        list = "SHA256.sig"
        key = "/etc/signify/k.pub"
        [[source]]
        directory = "../src"
        without = ["**/CVS"]
        into = "usr/src/"
        [[source]]
        packages = ["@base", "libc6:i386", "g++"]
        modified_conffiles = "copy"
        [[make]]
        path = "."
        group = "1"
        mode = "0711"
        [[account]]
        name = "_pbuild"
        home = "/home/pbuild"
        shell = "/bin/sh"
        dotfiles = [".profile", "./-x"]
        prompt = "> "
        environment = { EDITOR = "vi" }
    "#;
    let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
    let recipe = parse(text, "/r/ports.toml").unwrap();
    assert_eq!((recipe.devices, recipe.net), (Devices::None, Net::None));
    assert_eq!(recipe.etc, [path("etc/resolv.conf"), path("etc/ssh/ssh_config")]);
    assert_eq!((&recipe.nested, &recipe.replace), (&vec![path("var/sysmerge/etc.tgz")], &vec![path("usr/lib")]));
    let on = Action::ALL.into_iter().filter(|action| *action != Action::Ldconfig);
    assert_eq!(recipe.actions, on.collect());
    let verify = Verify { list: "/r/SHA256.sig".into(), key: Some("/etc/signify/k.pub".into()) };
    let archive = Origin::Archive { path: "/r/base.tgz".into(), verify: Some(verify) };
    assert_eq!(recipe.sources[0], Source { origin: archive, into: TreePath::root() });
    assert_eq!(
        recipe.sources[1],
        Source {
            origin: Origin::Directory { path: "/r/../src".into(), without: vec!["**/CVS".into()] },
            into: path("usr/src")
        }
    );
    let names = ["@base", "libc6:i386", "g++"].map(str::to_owned).to_vec();
    assert_eq!(recipe.sources[2].origin, Origin::Packages { directory: "/".into(), names, modified: Conffiles::Copy });
    assert!(recipe.made[0].path.is_root() && recipe.made[0].mode == Some(0o711));
    assert_eq!(recipe.accounts[0].dotfiles, [path(".profile"), path("-x")]);
    let own = recipe.environment_of("_pbuild");
    assert_eq!(
        own.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>(),
        ["EDITOR=vi", "LANG=C", "PS1=> ", "_X1="]
    );
    assert_eq!(recipe.environment_of("root")["PS1"], "ports$ ");
    let policy = recipe.policy().unwrap();
    assert!(policy.keep.covers(&path("home/a/b")) && policy.volatile.covers(&path("a/b.pyc")));

    let written = recipe.to_toml().unwrap();
    assert_eq!(parse(&written, "/elsewhere/recipe").unwrap(), recipe, "{written}");
    assert_eq!(parse(&Recipe::default().to_toml().unwrap(), "/x").unwrap(), Recipe::default());
}

#[test]
fn a_recipe_extends_another() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let load = |name: &str| load(dir.path().join(name).to_str().unwrap());
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    write("sub/base.toml", "extends = \"host\"\n[[source]]\npackages = [\"vim\"]\n[[source]]\narchive = \"a.tgz\"");
    write(
        "top.toml",
        "extends = \"sub/base.toml\"\ndescription = \"top\"\netc = [\"-hosts\", \"motd\"]\n\
         [policy]\nunknown = \"remove\"\nvolatile = [\"-dev\"]\n\
         [[source]]\npackages = [\"-vim\", \"curl\"]\nmodified_conffiles = \"copy\"\n[[source]]\ndirectory = \"d\"",
    );
    let recipe = load("top.toml").unwrap();
    let host = super::load("host").unwrap();
    let names = match &host.sources[0].origin {
        Origin::Packages { names, .. } => [names.as_slice(), &["curl".to_owned()]].concat(),
        other => panic!("{other:?}"),
    };
    let origins: Vec<&Origin> = recipe.sources.iter().map(|source| &source.origin).collect();
    assert_eq!(
        origins,
        [
            &Origin::Packages { directory: "/".into(), names, modified: Conffiles::Copy },
            &Origin::Archive { path: dir.path().join("sub/a.tgz"), verify: None },
            &Origin::Directory { path: dir.path().join("d"), without: Vec::new() },
        ]
    );
    let etc: Vec<String> = recipe.etc.iter().map(TreePath::to_string).collect();
    assert_eq!(etc, ["etc/resolv.conf", "etc/localtime", "etc/motd"]);
    assert_eq!((recipe.description.as_deref(), recipe.unknown), (Some("top"), Unknown::Remove));
    assert_eq!(recipe.volatile, host.volatile[1..]);

    write("self.toml", "description = \"x\"\nextends = \"./self.toml\"");
    write("lost.toml", "extends = \"nowhere.toml\"");
    write("bad.toml", "extends = \"worse.toml\"");
    write("worse.toml", "\n  etc = 1");
    for (name, want) in [
        ("self.toml", "self.toml:2:11: recipes extend one another in a circle"),
        ("lost.toml", "lost.toml:1:11: "),
        ("bad.toml", "worse.toml:2:9: invalid type"),
    ] {
        let error = load(name).unwrap_err().to_string();
        assert!(error.contains(&format!("/{want}")), "{name}: {error}");
    }
    assert!(super::load("hosts").unwrap_err().advice().unwrap().starts_with("did you mean `host`?"));
    assert_eq!(super::load("./nowhere").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_the_command_line_adds_joins_the_recipe_once() {
    let words = |recipe: &Recipe| {
        let word = |source: &Source| match &source.origin {
            Origin::Packages { names, .. } => names.join(" "),
            Origin::Archive { path, verify } => format!("{} {}", path.display(), verify.is_some()),
            Origin::Directory { path, .. } => path.display().to_string(),
            Origin::Sets { names, .. } => names.join(" "),
            Origin::Listed { sets, .. } => sets.join(" "),
        };
        recipe.sources.iter().map(word).collect::<Vec<_>>().join(", ")
    };
    let vim = ["vim".to_owned()];
    let verify = Some(Verify { list: "/SHA256".into(), key: None });
    let mut host = load("host").unwrap();
    host.add_packages(&vim).unwrap();
    host.add_packages(&vim).unwrap();
    host.add_archive("/a.tgz".into(), verify).unwrap();
    host.add_archive("/b.tgz".into(), None).unwrap();
    host.add_archive("/a.tgz".into(), None).unwrap();
    let said = words(&host);
    assert!(said.ends_with(" vim, /a.tgz true, /b.tgz false") && said.starts_with("@base "), "{said}");
    let mut empty = Recipe::default();
    empty.add_packages(&[]).unwrap();
    assert!(empty.sources.is_empty());
    empty.add_packages(&vim).unwrap();
    assert_eq!(words(&empty), "vim");
    assert_eq!(host.add_packages(&["VIM".to_owned()]).unwrap_err().kind(), ErrorKind::Usage);
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"/\xff");
    assert!(host.add_archive(Path::new::<std::ffi::OsStr>(odd).into(), None).is_err());
}

#[test]
fn embedded_recipes_load_and_the_schema_knows_every_key() {
    for (name, _) in EMBEDDED {
        load(name).unwrap().policy().unwrap();
    }
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let mut keys: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let all = "account actions closure description devices environment etc extends make nested net policy prompt record release replace source";
    assert_eq!(keys.join(" "), all);
    assert_eq!(schema["additionalProperties"], serde_json::Value::Bool(false));
}

#[test]
fn a_closure_is_added_to_and_remembered() {
    let text = r#"
        [closure]
        programs = ["/usr/sbin/nginx"]
        with = ["locales"]
        users = ["www-data"]
        keep_setid = ["/usr/bin/su"]
        sockets = ["/run/postgresql/.s.PGSQL.5432", "/run/postgresql/other"]
        for = "sshd"
        [closure.traced]
        "/etc/x" = "/usr/bin/y"
    "#;
    let mut recipe = parse(text, "r.toml").unwrap();
    assert_eq!(parse(&recipe.to_toml().unwrap(), "r.toml").unwrap(), recipe);
    let closure = recipe.closure.as_mut().unwrap();
    assert_eq!(closure.socket_dirs(), ["/run/postgresql"]);
    let more = Closure { programs: vec!["/usr/sbin/nginx".into(), "/bin/sh".into()], ..Closure::default() };
    closure.add(&more);
    assert_eq!(closure.programs, ["/usr/sbin/nginx", "/bin/sh"]);
    assert!(closure.purpose == Some(Purpose::Sshd) && closure.users == ["www-data"]);
    for bad in ["programs = [\"nginx\"]", "for = \"x\"", "users = [\"a b\"]", "paths = [\"/../x\"]", "other = 1"] {
        assert!(parse(&format!("[closure]\n{bad}\n"), "r.toml").is_err(), "{bad}");
    }
}
