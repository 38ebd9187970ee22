# SPDX-License-Identifier: ISC
"""Judges an OpenBSD package as pkg_add(1) does, from package(5) and nothing of stockade:

    check_package.py PACKAGE ROOT add|delete

What it finds wrong is an error. Then it does what adding or deleting the package does, below ROOT.
"""
import base64, hashlib, io, os, re, subprocess, sys, tarfile, zlib

BEFORE_FILES = ["@name", "@url", "@version", "@signer", "@digital-signature", "@option", "@comment", "@localbase", "@arch"]
BETWEEN = ["@conflict", "@pkgpath", "@ask-update", "@libset", "@depend", "@wantlib", "@define-tag", "@newgroup", "@newuser"]
ACTIONS = ["@exec", "@exec-always", "@exec-add", "@exec-update", "@unexec", "@unexec-always", "@unexec-delete", "@unexec-update"]
STATE = ["@cwd", "@owner", "@group", "@mode"]


def need(true, what):
    if not true:
        sys.exit(f"{sys.argv[1]}: {what}")


def unsigned(blob):
    """The gzip file behind the signature in its comment; every block of it hashed."""
    need(blob[:4] == b"\x1f\x8b\x08\x10", "no gzip file with a comment alone")
    end = blob.index(b"\0", 10)
    comment, rest = blob[10:end].decode("ascii"), blob[end + 1:]
    first, second, message = comment.split("\n", 2)
    need(re.fullmatch(r"untrusted comment: verify with [\w.+@-]+-pkg\.pub", first), "the signature names no key of packages")
    need(len(base64.b64decode(second, validate=True)) == 74, "no signature")
    fields, hashes = message.split("\n\n", 1)
    fields = dict(line.split("=", 1) for line in fields.split("\n"))
    need(fields["algorithm"] == "SHA512/256", "another algorithm")
    need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fields["date"]), "the date is not ISO 8601")
    need(re.search(r"/[\w.+@-]+-pkg\.sec$", fields["key"]), "no signer in the path of the key")
    size, hashes = int(fields["blocksize"]), hashes.split()
    blocks = [rest[at:at + size] for at in range(0, len(rest), size)]
    need([hashlib.new("sha512_256", block).hexdigest() for block in blocks] == hashes[:len(blocks)], "a block is not what was signed")
    return zlib.decompress(blob[:3] + b"\0" + blob[4:10] + rest, 31)


def parse(text):
    """Name, items [(path below cwd, cwd, notes)] in order, and actions [(keyword, command with cwd)]."""
    head, items, actions, cwd, stage, last = {}, [], [], None, 0, None
    for line in text.split("\n")[:-1]:
        word, _, rest = line.partition(" ")
        if word in BEFORE_FILES and stage == 0:
            need(word == "@comment" or word not in head, f"{word} twice")
            head.setdefault(word, rest)
        elif re.fullmatch(r"\+(DESC|DISPLAY|UNDISPLAY)", line) and stage == 0:
            last = {}
            items.append((line, None, last))
        elif word in BETWEEN and stage <= 1 and word != "@newuser":
            stage = 1
            if word == "@depend":
                need(re.fullmatch(r"[\w./+-]+:[\w.*+-]+:[\w.+-]+-\d[\w.]*", rest), "a malformed dependency")
        elif word in ("@sha", "@size", "@ts"):
            need(last is not None and word not in last, f"{word} of nothing")
            need(not (word == "@ts" and last.get("special")), "a time of a special file")
            need(list(last) == ["@sha", "@size", "@ts"][:len(last)], "annotations in another order")
            last[word] = rest
        elif word in STATE:
            stage, last = 2, None
            need(word == "@cwd" and rest.startswith("/"), "only the directory is expected to change")
            cwd = rest
        elif word in ACTIONS:
            actions.append((word, rest, cwd))
        else:
            need(stage == 2 and not line.startswith("@"), f"an unknown keyword: {line}")
            need(not line.startswith("/") and ".." not in line.split("/"), f"not below its directory: {line}")
            last = {} if not line.endswith("/") else None
            items.append((line, cwd, last))
    return head, items, actions


def check(package, root, adding):
    tar = tarfile.open(fileobj=io.BytesIO(unsigned(open(package, "rb").read())))
    members = tar.getmembers()
    need(members[0].name == "+CONTENTS", "the packing list does not come first")
    text = tar.extractfile(members[0]).read().decode()
    head, items, actions = parse(text)
    need(head["@name"] + ".tgz" == os.path.basename(package), "the file has another name than the package")
    stem, version = re.fullmatch(r"(.+?)-(\d[^-]*)", head["@name"]).groups()
    need(not re.search(r"-\d", stem), "the stem has a version in it")
    need(re.search(r"(^| )pkgpath=\S+ .*ftp=", head["@comment"]), "updates would not find each other")
    need(head["@arch"], "no architecture")
    need(items[0][0] == "+DESC", "no description")
    listed = {name: notes for name, _, notes in items if not name.endswith("/")}
    need(len(listed) == len([i for i in items if not i[0].endswith("/")]), "two members of one name")
    need([m.name for m in members[1:]] == list(listed), "the archive has not what is listed")
    for member in members:
        need(member.isreg(), f"{member.name}: no file")
        need(member.uname == "root" and member.gname in ("bin", "wheel"), f"{member.name}: of another owner")
        need(member.mode & 0o7000 == 0, f"{member.name}: set-id bits do not travel")
        if member.name != "+CONTENTS":
            notes, body = listed[member.name], tar.extractfile(member).read()
            need(notes["@size"] == str(len(body)), f"{member.name}: another size")
            need(notes["@sha"] == base64.b64encode(hashlib.sha256(body).digest()).decode(), f"{member.name}: another hash")
            if not member.name.startswith("+"):
                need("@ts" in notes and member.mtime == 0, f"{member.name}: its time")
    first = tar.extractfile("+DESC").read().decode().split("\n")[0]
    need(0 < len(first) <= 60, "the description has no first line of at most 60 letters")
    if adding:
        for name, cwd, _ in items:
            place = f"{root}{cwd}/{name}" if cwd else None
            need(not place or name.endswith("/") or not os.path.lexists(place), f"collides: {name}")
    return tar, items, actions


def run(actions, kind, root):
    for word, command, cwd in actions:
        if word == kind:
            command = command.replace("%D", root + cwd)
            subprocess.run(["/bin/sh", "-c", command], check=True, env={**os.environ, "PKG_DESTDIR": root})


def main():
    package, root, what = sys.argv[1:]
    tar, items, actions = check(package, root, what == "add")
    own = [(name, f"{root}{cwd}/{name}") for name, cwd, _ in items if cwd]
    if what == "delete":
        run(actions, "@unexec", root)
        for name, place in reversed(own):
            if name.endswith("/"):
                # One that another package lists, too, stays.
                if not os.listdir(place) or name.count("/") > 1:
                    os.rmdir(place)
            else:
                os.unlink(place)
        return
    for name, place in own:
        if name.endswith("/"):
            os.makedirs(place, exist_ok=True)
        else:
            with open(place, "wb") as out:
                out.write(tar.extractfile(name).read())
    run(actions, "@exec", root)


main()
