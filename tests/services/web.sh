# SPDX-License-Identifier: ISC
# nginx and php-fpm in one jail; a page asks PostgreSQL, which runs on the host, by its socket, and sends mail.
fpm=$(ls /usr/sbin/php-fpm* | head -1)
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
postgres() { as_postgres "$(ls -d /usr/lib/postgresql/*/bin)/pg_ctl" -w -s -D /srv/pg/data -l /srv/pg/log -o "-h '' -k /run/own" "$1"; }

mkdir -p conf www pg /run/own
chown postgres pg /run/own
cat > conf/nginx.conf <<'CONF'
daemon off;
user www-data;
worker_processes 1;
error_log /var/log/nginx/error.log;
pid /run/nginx.pid;
events {}
http {
    access_log /var/log/nginx/access.log;
    include /etc/nginx/mime.types;
    server {
        listen 127.0.0.1:80;
        root /srv/www;
        location ~ \.php$ {
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
            fastcgi_pass unix:/run/php/own.sock;
        }
    }
}
CONF
cat > conf/fpm.conf <<'CONF'
[global]
daemonize = no
error_log = /var/log/fpm.log
pid = /run/php/own.pid
[www]
user = www-data
group = www-data
listen = /run/php/own.sock
listen.owner = www-data
pm = static
pm.max_children = 2
php_admin_value[sendmail_path] = "/usr/bin/msmtp -C /srv/conf/msmtprc -t"
CONF
printf 'account default\nhost 127.0.0.1\nport 25\nfrom web@example.org\n' > conf/msmtprc
cat > www/index.php <<'PAGE'
<?php
$db = pg_connect("host=/run/own dbname=postgres user=postgres") or die("no database");
$row = pg_fetch_row(pg_query($db, "select sum(n) from t"));
$sent = mail("to@example.org", "sum $row[0]", "hello\n");
$day = (new DateTime("@0"))->setTimezone(new DateTimeZone("Asia/Tokyo"))->format("H");
echo "sum $row[0] mail ", var_export($sent, true), " hour $day ", strtoupper(iconv("UTF-8", "ISO-8859-1", "x")), "\n";
PAGE
echo plain > www/plain.txt
cat > smtp.py <<'SERVER'
import socketserver

class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda text: self.wfile.write(text.encode() + b"\r\n")
        say("220 here")
        body = False
        for line in self.rfile:
            line = line.decode().rstrip("\r\n")
            if body and line == ".":
                body = False
                say("250 taken")
            elif body:
                print(line, file=open("/srv/mail", "a"))
            elif line.upper().startswith("DATA"):
                body = True
                say("354 go on")
            elif line.upper().startswith("QUIT"):
                return say("221 bye")
            else:
                say("250 yes")

socketserver.TCPServer(("127.0.0.1", 25), Mail).serve_forever()
SERVER
as_postgres "$(ls -d /usr/lib/postgresql/*/bin)/initdb" -N -A trust -D /srv/pg/data >/dev/null
postgres start
psql -qh /run/own -U postgres -c 'create table t as select generate_series(1, 10) n' postgres
python3 smtp.py &
"$STOCKADE" doctor --install-hooks
# A key that not everybody may read comes only by name.
printf -- '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw\n-----END PRIVATE KEY-----\n' > /etc/nginx/tls.key
chmod 640 /etc/nginx/tls.key
"$STOCKADE" jail web nginx "$fpm" msmtp sh --user www-data --path /srv/conf --path /srv/www --socket /run/own/.s.PGSQL.5432 > said
grep '/etc/nginx/tls.key: a private key comes only by name' said
[ ! -e home/web/etc/nginx/tls.key ]
"$STOCKADE" check web --host
[ -z "$(find home/web -type f -links +1)" ]

begin() {
    "$STOCKADE" run web -- "$fpm" -y /srv/conf/fpm.conf & fpm_pid=$!
    "$STOCKADE" run web -- nginx -c /srv/conf/nginx.conf & nginx_pid=$!
    until_works curl -sf http://127.0.0.1/plain.txt
    until_works test -S home/web/run/php/own.sock
}
answers() {
    rm -f mail
    [ "$(curl -sf http://127.0.0.1/index.php)" = "sum 55 mail true hour 09 X" ]
    grep -x 'Subject: sum 55' mail
}
begin
answers
# A server that starts anew makes a new socket.
postgres restart
answers
# Logs are turned over from outside.
mv home/web/var/log/nginx/access.log home/web/var/log/nginx/access.log.1
kill -USR1 "$(pgrep -f 'nginx: master')"
until_works test -e home/web/var/log/nginx/access.log
answers
until_works grep -q index.php home/web/var/log/nginx/access.log
[ "$(stat -c %U home/web/var/log/nginx/access.log)" = www-data ]
"$STOCKADE" check web
stop $nginx_pid $fpm_pid

breaks_and_mends home/web 'libpq.so.5.*'
begin
answers
stop $nginx_pid $fpm_pid

upgrade libpq5 > said
grep 'web: .* entries are not as the host has them' said
grep 'libpq5 [0-9].*, the host has .*+upgraded' said
differs "$STOCKADE" check web --host
"$STOCKADE" build web
"$STOCKADE" check web --host
tail -c 8 home/web/usr/lib/*/libpq.so.5.* | grep upgraded
begin
answers
stop $nginx_pid $fpm_pid
# With this, apt brings the jail up to date itself.
"$STOCKADE" doctor --install-hooks --refresh-jails
upgrade msmtp > said
grep 'web: brought up to date' said
tail -c 8 home/web/usr/bin/msmtp | grep upgraded
begin
answers
stop $nginx_pid $fpm_pid
postgres stop
