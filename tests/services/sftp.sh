# SPDX-License-Identifier: ISC
# An account that may only sftp, in a jail that sshd makes its root.
useradd -m -p '*' -s /bin/sh only
mkdir -p /run/sshd ssh
mkdir -m 755 outer outer/jails
ssh-keygen -q -t ed25519 -N '' -f ssh/host
ssh-keygen -q -t ed25519 -N '' -f ssh/key
chmod 755 ssh
cat > ssh/config <<'CONF'
ListenAddress 127.0.0.1
Port 22
HostKey /srv/ssh/host
AuthorizedKeysFile /srv/ssh/key.pub
PidFile none
UsePAM no
Subsystem sftp /usr/lib/openssh/sftp-server
Match User only
    ChrootDirectory /srv/outer/jails/sftp
    ForceCommand /usr/lib/openssh/sftp-server
CONF
"$STOCKADE" jail outer/jails/sftp sh /usr/lib/openssh/sftp-server --user only --for sshd
[ "$(stat -c %U outer/jails/sftp/home/only)" = only ]
/usr/sbin/sshd -D -e -f /srv/ssh/config 2>/srv/ssh/log &
sshd=$!
echo sent > file
session() {
    rm -f got
    sftp -b - -i ssh/key -oBatchMode=yes -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null only@127.0.0.1 <<'BATCH'
put file /home/only/file
get /home/only/file got
ls -l /home/only/file
ls /
-get /etc/shadow
BATCH
}
until_works session
session > said
cmp file got
grep -- '-rw-r--r-- .* only .* /home/only/file' said
# It sees the jail and nothing else.
[ ! -e shadow ]
lacks srv said
"$STOCKADE" check outer/jails/sftp
# What others than root may write to is no root for sshd: the build says so.
chmod 777 outer
refused "$STOCKADE" build outer/jails/sftp 2>said
grep 'others than root can write there' said
chmod 755 outer
"$STOCKADE" build outer/jails/sftp
breaks_and_mends outer/jails/sftp libc.so.6
session
upgrade openssh-sftp-server
differs "$STOCKADE" check --all --host > said
grep 'openssh-sftp-server' said
"$STOCKADE" build --jails
session
cmp file got
stop $sshd
