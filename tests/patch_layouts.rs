// SPDX-License-Identifier: ISC
//! Patches for OpenBSD's own tools: mirrors of syspatch, written and read, and packages.

mod common;

use common::{World, able, rsync_differences};

/// What syspatch(8) does with a mirror, in the order of its documentation: verifies the list, compares names, hashes the
/// archive, asks whether a member is installed, keeps what is there, installs each member; `revert` goes back.
const CLIENT: &str = r#"
set -eu
mirror=$1 root=$2 key=$3 revert=${4:-}
osrev=78 dir=$mirror/syspatch/7.8/amd64
install_all() (
    cd "$1"
    find . ! -type d | sed 's|^\./||' | while read -r file; do
        mkdir -p "$(dirname "$root/$file")"
        if [ -L "$file" ]; then ln -sf "$(readlink "$file")" "$root/$file"
        else install -p -m "$(stat -c %a "$file")" -o "$(stat -c %u "$file")" -g "$(stat -c %g "$file")" "$file" "$root/$file"; fi
    done
)
if [ -n "$revert" ]; then
    last=$(ls "$root/var/syspatch" | sort | tail -1); tmp=$(mktemp -d)
    tar xzpf "$root/var/syspatch/$last/rollback.tgz" -C "$tmp"
    install_all "$tmp"; rm -r "$root/var/syspatch/$last" "$tmp"; exit
fi
tmp=$(mktemp -d)
signify-openbsd -Veq -x "$dir/SHA256.sig" -m "$tmp/SHA256" -p "$key"
[ "$(basename "$key")" = openbsd-$osrev-syspatch.pub ]
sed -n 's/^SHA256 (\(syspatch.*\)\.tgz) = .*/\1/p' "$tmp/SHA256" | sort -V > "$tmp/names"
while read -r name; do
    echo "$name" | grep -Eq "^syspatch$osrev-[0-9]{3}_[[:alnum:]_-]+$"
    patch=${name#syspatch}
    [ -f "$root/var/syspatch/$patch/rollback.tgz" ] && continue
    want=$(sed -n "s/^SHA256 ($name.tgz) = //p" "$tmp/SHA256")
    [ "$(sha256sum < "$dir/$name.tgz" | cut -d' ' -f1)" = "$want" ]
    rm -rf "$tmp/new"; mkdir "$tmp/new"
    tar tzf "$dir/$name.tgz" > "$tmp/members"
    ! grep -Eq '/$|^/|^\./|[[:space:]]' "$tmp/members"
    there=; while read -r member; do [ -f "$root/$member" ] && there=1; done < "$tmp/members"
    [ -n "$there" ] || continue
    mkdir -p "$root/var/syspatch/$patch"
    tar xzpf "$dir/$name.tgz" -C "$tmp/new"
    (cd "$root"; while read -r member; do [ -f "$member" ] && echo "$member"; done < "$tmp/members" || true) > "$tmp/old"
    tar czf "$root/var/syspatch/$patch/rollback.tgz" -C "$root" -T "$tmp/old"
    install_all "$tmp/new"
    echo "$patch"
done < "$tmp/names"
rm -r "$tmp"
"#;

#[test]
fn a_mirror_for_syspatch() {
    if !able(&["signify-openbsd", "install"]) {
        return;
    }
    let world = World::new();
    world.write("client.sh", CLIENT);
    world.sh(
        "umask 022
        mkdir -p t0/usr/sbin t0/usr/bin t0/etc t0/var/syspatch; seq 100 > t0/usr/sbin/d; chmod 555 t0/usr/sbin/d; echo x > t0/usr/bin/x; chmod 4755 t0/usr/bin/x
        cp -a t0 t1; seq 99 > t1/usr/sbin/d; echo y > t1/usr/bin/x; mkdir t1/usr/new; echo n > t1/usr/new/n; ln -s d t1/usr/sbin/e
        cp -a t0 root; cp -a t0 none; rm none/usr/sbin/d none/usr/bin/x
        $STOCKADE key generate openbsd-78-syspatch; $STOCKADE key generate k-patch
        for n in 901; do $STOCKADE patch diff t0 t1 --name fix.one --number $n --release 7.8 --arch amd64 -s k-patch.sec; done
        $STOCKADE patch publish mirror fix.one.tgz --layout syspatch -s openbsd-78-syspatch.sec --key k-patch.pub
        test $(sh client.sh mirror $PWD/root openbsd-78-syspatch.pub) = 78-901_fix_one
        test -z \"$(sh client.sh mirror $PWD/root openbsd-78-syspatch.pub)\"
        test -z \"$(sh client.sh mirror $PWD/none openbsd-78-syspatch.pub)\"
        diff -r --no-dereference -x syspatch t1 root
        test \"$(stat -c '%a %u %g %Y' root/usr/bin/x)\" = \"$(stat -c '%a %u %g %Y' t1/usr/bin/x)\"
        sh client.sh mirror $PWD/root openbsd-78-syspatch.pub revert
        cmp root/usr/sbin/d t0/usr/sbin/d && cmp root/usr/bin/x t0/usr/bin/x",
    );
    world.sh(
        "diff='$STOCKADE patch diff --release 7.8 --arch amd64 -s k-patch.sec'
        cp -a t1 gone; rm gone/etc -r; cp -a t1 linked; ln linked/usr/new/n linked/usr/new/m; cp -a t1 mode; chmod 500 mode/usr/new/n
        cp -a t1 blank; echo > 'blank/usr/a b'; cp -a t1 only; echo > only/usr/only
        for t in gone linked mode blank only; do sed s/50/51/ -i $t/usr/sbin/d; done
        cp t1/usr/sbin/d only/usr/sbin/d; touch -r t1/usr/sbin/d only/usr/sbin/d; chmod 555 only/usr/sbin/d
        for t in gone linked mode blank only; do eval $diff t1 $t --name $t --number 902; done
        $STOCKADE patch diff t0 t1 --name low --number 12 --release 7.8 --arch amd64 -s k-patch.sec
        $STOCKADE patch diff t0 t1 --name any --number 902 -s k-patch.sec",
    );
    for (name, words) in [
        ("gone", "removes nothing"),
        ("linked", "hard links"),
        ("mode", "metadata alone"),
        ("blank", "blanks"),
        ("only", "replaces no file"),
        ("low", "between 900 and 999"),
        ("any", "no release"),
    ] {
        let file = format!("{name}.tgz");
        let publish = [
            "patch",
            "publish",
            "mirror",
            &file,
            "--layout",
            "syspatch",
            "-s",
            "openbsd-78-syspatch.sec",
            "--key",
            "k-patch.pub",
        ];
        world.refused(&publish, &[words]);
    }
    assert_eq!(world.sh("ls mirror/syspatch/7.8/amd64"), "SHA256.sig\nsyspatch78-901_fix_one.tgz\n");
}

/// Archives that lie in a mirror are signed again only as they came.
#[test]
fn what_came_from_elsewhere_is_verified_first() {
    if !able(&["signify-openbsd", "tar"]) {
        return;
    }
    let world = World::new();
    world.sh(
        "umask 022; mkdir t0; seq 100 > t0/d; cp -a t0 t1; seq 99 > t1/d; at=mirror/syspatch/7.8/amd64; mkdir -p $at
        for key in openbsd-78-syspatch theirs k-patch; do $STOCKADE key generate $key; done
        $STOCKADE patch diff t0 t1 --name fix --number 901 --release 7.8 --arch amd64 -s k-patch.sec
        tar czf $at/syspatch78-001_a.tgz -C t0 d; cd $at; sha256sum --tag *.tgz > S
        signify-openbsd -S -e -s $OLDPWD/theirs.sec -m S -x SHA256.sig; rm S; cp *.tgz $OLDPWD",
    );
    let publish = |more: &[&str]| {
        let own = ["patch", "publish", "mirror", "fix.tgz", "--layout", "syspatch", "-s", "openbsd-78-syspatch.sec"];
        world.run(&[&own[..], &["--key", "k-patch.pub"], more].concat())
    };
    let at = world.path("mirror/syspatch/7.8/amd64");
    let said = publish(&[]);
    assert!(said.status == Some(1) && said.err.contains("signed by key"), "{said:?}");
    world.sh(&format!("cd {}; echo >> syspatch78-001_a.tgz", at.display()));
    let said = publish(&["--key", "theirs.pub"]);
    assert!(said.status == Some(1) && said.err.contains("not what the signed list beside it says"), "{said:?}");
    world.sh(&format!("cp syspatch78-001_a.tgz {}", at.display()));
    assert_eq!(publish(&["--key", "theirs.pub"]).status, Some(0));
    assert_eq!(publish(&[]).status, Some(0), "it is signed by its own key now");
    world.sh(&format!("cd {}; signify-openbsd -C -p $OLDPWD/openbsd-78-syspatch.pub -x SHA256.sig", at.display()));
}

/// What the archives of the mirror bring is applied as any patch is, and undone exactly.
#[test]
fn a_mirror_is_read_back() {
    if !able(&["rsync", "tar", "signify-openbsd"]) {
        return;
    }
    let world = World::new();
    world.sh(
        "umask 022
        arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/'); echo $arch > arch
        mkdir -p t0/usr/sbin t0/usr/bin t0/etc/signify t0/usr/share/relink/kernel/GENERIC.MP
        touch t0/etc/signify/openbsd-78-base.pub t0/etc/signify/openbsd-79-base.pub; seq 100 > t0/usr/sbin/d; chmod 555 t0/usr/sbin/d
        echo x > t0/usr/bin/x; chmod 4755 t0/usr/bin/x; echo o > t0/usr/share/relink/kernel/GENERIC.MP/if.o
        cp -a t0 t1; seq 99 > t1/usr/sbin/d; chown 0:7 t1/usr/bin/x; echo y > t1/usr/bin/x; chmod 4755 t1/usr/bin/x
        mkdir t1/usr/new; echo n > t1/usr/new/n; ln -s d t1/usr/sbin/e
        touch -d @1600000000 t1/usr/sbin/d t1/usr/bin/x t1/usr/new/n t1/usr/share/relink/kernel/GENERIC.MP/if.o
        cp -a t0 root; cp -a t0 none; rm none/usr/sbin/d none/usr/bin/x
        $STOCKADE key generate openbsd-78-syspatch; $STOCKADE key generate k-patch
        $STOCKADE patch diff t0 t1 --name fix.one --number 901 --release 7.8 --arch $arch -s k-patch.sec
        $STOCKADE patch publish mirror fix.one.tgz --layout syspatch -s openbsd-78-syspatch.sec --key k-patch.pub
        # One as the official ones are, which knows names and flavours of kernels that are not here.
        mkdir -p k/usr/sbin k/usr/share/relink/kernel/GENERIC k/usr/share/relink/kernel/GENERIC.MP
        seq 98 > k/usr/sbin/d; chmod 555 k/usr/sbin/d; cd k
        for f in GENERIC GENERIC.MP; do echo new > usr/share/relink/kernel/$f/if.o; done
        dir=../mirror/syspatch/7.8/$arch; tar czf $dir/syspatch78-902_if.tgz $(find . -type f | sed 's|^./||')
        mkdir -p other; echo > other/file; tar czf $dir/syspatch78-001_other.tgz other/file
        cd $dir; sha256sum --tag syspatch* > SHA256; signify-openbsd -S -e -s $OLDPWD/../openbsd-78-syspatch.sec -m SHA256 -x SHA256.sig; rm SHA256",
    );
    let sync = |root: &str, more: &[&str]| {
        let all = ["patch", "sync", "mirror", "--layout", "syspatch", "--root", root, "--key"];
        world.run(&[&all[..], &["openbsd-78-syspatch.pub"], more].concat())
    };
    let said = sync("./root", &["--dry-run"]);
    assert_eq!(said.err, "");
    assert_eq!(said.out, "missing syspatch78-001_other\nmissing syspatch78-901_fix_one\nmissing syspatch78-902_if\n");
    world.sh("cp -a root before");
    let said = sync("./root", &["--apply"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains("syspatch78-001_other: none of its files is installed"), "{said:?}");
    assert!(said.out.contains("nothing was compared") && said.out.contains("not applicable: relink"), "{said:?}");
    world.sh(
        "cp -a t1 want; cp -p k/usr/sbin/d want/usr/sbin/d; cp -p k/usr/share/relink/kernel/GENERIC.MP/if.o want/usr/share/relink/kernel/GENERIC.MP
        cp -a root have; rm -r have/var
        rsync -aHAXcni --omit-dir-times --delete want/ have/ > differences; test ! -s differences",
    );
    let listed = world.ok(&["patch", "list", "--root", "./root"]);
    assert!(listed.contains("syspatch78-901_fix_one") && listed.contains("syspatch78-902_if"), "{listed}");
    world.ok(&["patch", "check", "--root", "./root"]);
    assert_eq!(sync("./root", &["--apply"]).status, Some(2), "nothing new");
    // Exactly back, what was added included.
    world.ok(&["patch", "undo", "--to", "syspatch78-901_fix_one", "--root", "./root"]);
    assert_eq!(rsync_differences(&world.path("before"), &world.path("root")), "");
    // What syspatch itself applied is there; a root without the set has nothing to do.
    world.sh("for p in 78-901_fix_one 78-902_if; do mkdir -p root/var/syspatch/$p; touch root/var/syspatch/$p/rollback.tgz; done");
    assert_eq!(sync("./root", &["--dry-run"]).out, "missing syspatch78-001_other\n");
    assert_eq!(sync("./none", &["--apply", "--no-wait"]).status, Some(0), "the kernel is there");
    // Nothing of what is not as it is signed.
    world.sh(
        "cp -a t0 other; for f in mirror/syspatch/*/*/*901*; do cp $f keep; echo >> $f; done; rm home/patches/*901*",
    );
    let said = sync("./other", &["--apply"]);
    assert!(said.status == Some(1) && said.err.contains("not what the repository lists"), "{said:?}");
    assert_eq!(rsync_differences(&world.path("t0"), &world.path("other")), "");
    world.refused(
        &["patch", "sync", "mirror", "--layout", "syspatch", "--root", "./other"],
        &["openbsd-78-syspatch.pub", "--key"],
    );
    world.refused(
        &["patch", "sync", "mirror", "--layout", "syspatch", "--root", "./other", "--key", "k-patch.pub"],
        &["SHA256.sig", "signed by key"],
    );
    world.sh("rm -r other/etc");
    let linux = ["patch", "sync", "mirror", "--layout", "syspatch", "--root", "./other"];
    world.refused(&linux, &["the root is of"]);
}

/// A package in which pkg_add finds nothing wrong, and that lists nothing of the base system.
#[test]
fn packages() {
    if !able(&["python3", "tar", "rsync", "signify-openbsd"]) {
        return;
    }
    let world = World::new();
    world.write("check.py", include_str!("check_package.py"));
    world.sh(
        "umask 022
        mkdir -p t0/usr/sbin t0/usr/bin t0/usr/lib t0/etc t0/var/db; seq 100 > t0/usr/sbin/d; chmod 555 t0/usr/sbin/d
        echo x > t0/usr/bin/x; chmod 4755 t0/usr/bin/x; echo 1 > t0/usr/lib/libz.so.1.0; ln -s d t0/usr/sbin/e
        find t0 -exec touch -h -d @1500000000 {} +; cp -a t0 t1
        seq 99 > t1/usr/sbin/d; echo y > t1/usr/bin/x; chmod 4755 t1/usr/bin/x
        rm t1/usr/lib/libz.so.1.0; echo 2 > t1/usr/lib/libz.so.1.1; ln -sf x t1/usr/sbin/e; mkdir -p t1/usr/new/deep; echo n > t1/usr/new/deep/n
        find t1 -newermt @1500000001 -exec touch -h -d @1600000000 {} +; cp -a t1 t2; seq 98 > t2/usr/sbin/d
        $STOCKADE key generate k-patch; $STOCKADE key generate fleet-pkg
        diff='$STOCKADE patch diff --release 7.8 --arch amd64 -s k-patch.sec --series s'
        eval $diff t0 t1 --name fix-1.0_d --number 1 --title '\"sshd: a title that says much more than there is room for in one line\"'
        eval $diff t1 t2 --name fix-2 --number 2 --requires fix-1.0_d.tgz --follow-up ldconfig
        $STOCKADE patch publish pub fix-1.0_d.tgz fix-2.tgz --layout package -s fleet-pkg.sec --key k-patch.pub
        cd pub/7.8/packages/amd64; signify-openbsd -C -p $OLDPWD/fleet-pkg.pub -x SHA256.sig
        for p in *.tgz; do signify-openbsd -V -z -p $OLDPWD/fleet-pkg.pub -x $p -m - > /dev/null; done",
    );
    let [one, two] = ["patch-p_fix_1_0_d-1.0.tgz", "patch-p_fix_2-2.0.tgz"];
    assert_eq!(world.sh("ls pub/7.8/packages/amd64"), format!("SHA256.sig\n{one}\n{two}\n"));
    let pkg =
        |file: &str, what: &str| world.sh(&format!("python3 check.py pub/7.8/packages/amd64/{file} $PWD/root {what}"));
    let differences = |tree: &str| {
        // Where the package itself is, and times of the directories above what changed.
        world.sh(&format!("rsync -aHAXcni --omit-dir-times --exclude /var/db/binpatch --exclude /var/db/stockade --delete {tree}/ root/"))
    };
    world.sh("cp -a t0 root");
    pkg(one, "add");
    assert_eq!(differences("t1"), "");
    pkg(two, "add");
    assert_eq!(differences("t2"), "");
    // Plain tar left what says which patches are there.
    let listed = world.ok(&["patch", "list", "--root", "./root"]);
    assert!(!listed.contains("fix-2") || listed.contains("no undo"), "{listed}");
    pkg(two, "delete");
    assert_eq!(differences("t1"), "");
    pkg(one, "delete");
    assert_eq!(rsync_differences(&world.path("t0"), &world.path("root")).matches("f").count(), 0);
    assert_eq!(
        world.sh("ls -A root/var/db root/usr; find root -name '*.new'"),
        "root/usr:\nbin\nlib\nsbin\n\nroot/var/db:\n"
    );
    // Where nothing of it is installed, nothing comes; where it cannot be put in place, all is as before.
    world.sh("rm -r root; mkdir root");
    assert!(pkg(one, "add").contains("none of its files"));
    assert_eq!(world.sh("find root -type f | grep -v binpatch || true"), "");
    world.sh(&format!(
        "rm -r root; cp -a t0 root; mkdir root/usr/sbin/d.new; touch root/usr/sbin/d.new/x
        ! python3 check.py pub/7.8/packages/amd64/{one} $PWD/root add 2>/dev/null
        rm -r root/usr/sbin/d.new root/var/db/binpatch"
    ));
    assert_eq!(differences("t0"), "");
    // Begun is not done; what somebody else changed since stays.
    world.sh("rm -r root; cp -a t0 root");
    pkg(one, "add");
    world.sh("cd root/var/db/binpatch/*; rm installed; cp -p rollback/usr/bin/x ../../../../usr/bin/x; rm ../../../../usr/new/deep/n; PKG_DESTDIR=$OLDPWD/root sh install install");
    assert_eq!(differences("t1"), "");
    world.sh("echo 7.9 > root/usr/sbin/d; echo mine > root/usr/new/deep/n; PKG_DESTDIR=$PWD/root sh root/var/db/binpatch/*/install rollback");
    world.sh("cp -a t0 want; echo 7.9 > want/usr/sbin/d; mkdir -p want/usr/new/deep; echo mine > want/usr/new/deep/n");
    assert_eq!(world.sh("rsync -rlcni --exclude /var/db/binpatch --exclude /var/db/stockade --delete want/ root/"), "");
    // Whose key or change does not do.
    world.sh("cp -a t1 mode; chmod 500 mode/usr/bin/x; cp -a t1 empty; rmdir empty/etc
        for t in mode empty; do $STOCKADE patch diff t1 $t --name $t --release 7.8 --arch amd64 -s k-patch.sec; done");
    for (patch, key, words) in [
        ("fix-2.tgz", "k-patch.sec", "-pkg.sec"),
        ("mode.tgz", "fleet-pkg.sec", "metadata alone"),
        ("empty.tgz", "fleet-pkg.sec", "no directories"),
    ] {
        let publish = ["patch", "publish", "no", patch, "--layout", "package", "-s", key, "--key", "k-patch.pub"];
        world.refused(&publish, &[words]);
    }
    assert!(!world.path("no").exists());
}
