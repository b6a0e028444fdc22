#!/bin/sh
# Runs inside the root of debian_package.sh, booted by systemd-nspawn, as a
# unit: the packaged units under a real systemd, with all that they forbid.
# Lines "ok: …" and "FAILED: …" go to /root/result, the last one is "end".
exec >/root/result 2>&1

check()
{
    if [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        echo "FAILED: $1: got \"$2\", wanted \"$3\""
    fi
}

# Tokens of an answer through nginx from the engine named $1.
ask()
{
    curl -s -H 'Authorization: Bearer test' \
        -H 'Content-Type: application/json' "http://localhost/$1/v1/completions" \
        --unix-socket /run/http.sock \
        -d '{"model": "tiny", "prompt": "Hello", "max_tokens": 4}' |
        sed -n 's/.*"completion_tokens":\([0-9]*\).*/\1/p'
}

property()
{
    systemctl show -p "$2" --value "$1"
}

systemctl stop nginx
for name in tiny held; do
    {
        echo MODEL=/srv/tiny.gguf
        echo OPTIONS=--threads 1 --kv-memory 64m
    } >/etc/axion/$name.conf
done
cat >/etc/nginx/conf.d/axion.conf <<'END'
axion_upstream tiny { engine unix:/run/axion/tiny.sock; }
axion_upstream held { engine unix:/run/axion/held.sock; }
axion_tenant acme {
    key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08;
}
axion_timeout connect=1m;
server {
    listen unix:/run/http.sock;
    location /tiny/ { rewrite ^/tiny(.*) $1 break; axion_pass tiny; }
    location /held/ { rewrite ^/held(.*) $1 break; axion_pass held; }
}
END
check "users and folders of the manual's install are made again" \
    "$(systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
       echo $?)" 0
systemctl enable --now axiond@held.socket
check "a socket starts no engine" "$(property axiond@held ActiveState)" inactive
systemctl start nginx
check "nginx runs" "$(property nginx ActiveState)" active

systemctl enable --now axiond@tiny
check "start waits until the model is ready" \
    "$(property axiond@tiny StatusText)" \
    'serving "tiny" on /run/axion/tiny.sock'
check "status shows it" "$(systemctl status axiond@tiny |
    grep -c 'Status: "serving "tiny" on ')" 1
check "the sockets are for nginx's group" \
    "$(stat -c '%n %U:%G %a' /run/axion /run/axion/* | tr '\n' ' ')" \
    "/run/axion axion:axion 755 /run/axion/held.sock axion:www-data 660 \
/run/axion/tiny.sock axion:www-data 660 "
check "nginx gets an answer" "$(ask tiny)" 4
pid=$(property axiond@tiny MainPID)
check "it has no privilege" "$(awk '/^(NoNewPrivs|Seccomp|CapBnd):/ {
    printf "%s ", $2 }' "/proc/$pid/status")" "0000000000000000 1 2 "
check "it has no memory that is writable and code" \
    "$(grep -c ' .wx. ' "/proc/$pid/maps")" 0

check "the first connection starts the engine of a held socket" "$(ask held)" 4
check "it was passed the socket" "$(journalctl -q -u axiond@held |
    grep -c 'held.sock was passed')" 1
systemctl restart axiond@held
systemctl restart axiond@tiny
check "after a restart on the held socket" "$(ask held)" 4
check "after a restart on its own socket" "$(ask tiny)" 4
systemctl kill -s KILL axiond@tiny
check "killed, it is started again" "$(ask tiny)" 4

mkdir -p /etc/systemd/system/axiond@tiny.service.d
printf '[Service]\nSystemCallFilter=~@aio\n' \
    >/etc/systemd/system/axiond@tiny.service.d/no-aio.conf
systemctl daemon-reload
systemctl restart axiond@tiny
check "without io_uring it serves" "$(ask tiny)" 4
check "and says so once" "$(journalctl -q -u axiond@tiny |
    grep -c 'epoll, because of io_uring')" 1

systemctl stop axiond@tiny
echo OPTIONS=--no-such-option >>/etc/axion/tiny.conf
systemctl start axiond@tiny 2>/dev/null
check "a wrong option is not tried again" \
    "$(property axiond@tiny ActiveState) $(property axiond@tiny NRestarts)" \
    "failed 0"
systemctl disable --now axiond@held.socket
systemctl stop axiond@held
systemctl disable axiond@tiny
check "no socket is left" "$(ls /run/axion)" ""
systemctl stop nginx
rm -r /etc/axion/* /etc/systemd/system/axiond@tiny.service.d \
    /etc/nginx/conf.d/axion.conf
echo end
