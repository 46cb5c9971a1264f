#!/bin/sh
# Photographs from Debian packages into a folder, without root: wallpapers, and cut-out photographs of
# things and animals. Letters, symbols and cartoons are left out.
set -eu
goal=${1:?usage: photographs.sh FOLDER}
packages="plasma-workspace-wallpapers lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 ukui-wallpapers
  mate-backgrounds tuxpaint-stamps-default"
mkdir -p "$goal"
goal=$(cd "$goal" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
# shellcheck disable=SC2086
apt-get download -q $packages
for package in *.deb; do
  dpkg-deb -x "$package" "$goal/${package%%_*}"
done
rm -rf "$goal/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/symbols"
find "$goal" -type d -name cartoon -prune -exec rm -rf {} +
