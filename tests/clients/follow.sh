# Follows a stream with curl, and tells each event as its id, type and data between tabs: bash follow.sh URL
# TOKEN in the environment is the bearer token. JSON holds no tab.
set -u
last=0-0 code=000
until [[ $code == 204 || $code == 40[134] ]]; do
  id="" event=message data="" seen=no
  while IFS= read -r line; do
    case $line in
      "id: "*) id=${line#id: } ;;
      "event: "*) event=${line#event: } ;;
      "data: "*) data=${line#data: } seen=yes ;;
      "retry: "* | :*) ;;
      "http "*) code=${line#http } ;;
      "")
        last=${id:-$last}
        [[ $seen == no && -z $id ]] || printf '%s\t%s\t%s\n' "$id" "$event" "$data"
        id="" event=message data="" seen=no
        ;;
    esac
  done < <(curl -sN -w 'http %{http_code}\n' -H "Authorization: Bearer $TOKEN" -H "Last-Event-ID: $last" "$1")
  sleep 0.5
done
