# SPDX-License-Identifier: ISC
# A web application in Python under gunicorn.
mkdir app
cat > app/shop.py <<'APP'
import hashlib, json, os, pwd, sqlite3, ssl, zoneinfo

def application(environ, start):
    rows = sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()
    zone = zoneinfo.ZoneInfo("Europe/Berlin").key
    who = pwd.getpwuid(os.getuid()).pw_name
    roots = bool(ssl.create_default_context().get_ca_certs())
    body = json.dumps([rows[0], zone, who, roots, hashlib.md5(b"").hexdigest()[:4]]).encode() + b"\n"
    start("200 OK", [("Content-Type", "application/json")])
    return [body]
APP
"$STOCKADE" jail wsgi gunicorn --user www-data --path /srv/app
begin() {
    "$STOCKADE" run wsgi --user www-data --cwd /srv/app -- gunicorn -w 2 -b 127.0.0.1:8000 shop:application 2>log & pid=$!
    until_works curl -sf http://127.0.0.1:8000/ || { cat log; exit 1; }
}
answers() { [ "$(curl -sf http://127.0.0.1:8000/)" = '[42, "Europe/Berlin", "www-data", true, "d41d"]' ]; }
begin
answers
stop $pid
breaks_and_mends home/wsgi 'libsqlite3.so.0.*'
begin
answers
stop $pid
upgrade libsqlite3-0
differs "$STOCKADE" check wsgi --host > said
grep 'libsqlite3-0' said
"$STOCKADE" build wsgi
tail -c 8 home/wsgi/usr/lib/*/libsqlite3.so.0.* | grep upgraded
begin
answers
stop $pid
