#!/bin/sh
# The main job on a folder of real spectra: ingest, train, predict. Called by `make demo DATA=folder`,
# which sets the variables. Every step continues where an interrupted call stopped.
set -eu

if [ -z "$DATA" ]; then
    cat >&2 <<TEXT
The demo on real data needs a folder of spectra with a label table, for example

    make demo DATA=path/to/lamost

where the folder (or one below it) holds the survey's native files, and labels.csv in it names
every file or observation with its labels: for LAMOST the columns obsid or file, teff, logg, feh.
A few hundred stars are the least; the tables and files of every survey are in docs/surveys.md.
For other places and surveys: SURVEY=name SPECTRA=folder LABELS=table.
TEXT
    exit 2
fi
for path in "$SPECTRA" "$LABELS"; do
    if [ ! -e "$path" ]; then
        echo "make demo: $path does not exist (see DATA, SPECTRA, LABELS)" >&2
        exit 2
    fi
done

spectrolabe="$VENV/bin/spectrolabe"
catalogue="$RUN/catalogue.parquet"
mkdir -p "$RUN"

# Exit code 1 also says that some files could not be used: the good ones are enough to go on.
go_on() {
    if ! "$@"; then
        echo "make demo: not everything was used, see above; going on" >&2
    fi
}

echo "1/3 ingest: spectra and labels into $RUN/store"
go_on "$spectrolabe" ingest "$SURVEY" "$SPECTRA" --labels "$LABELS" \
    --output "$RUN/store" --workers "$WORKERS"
echo "2/3 train: $CONFIG"
# shellcheck disable=SC2086 # SETTINGS is a list of words
"$spectrolabe" train "$CONFIG" "data.store=$RUN/store" $SETTINGS --output "$RUN/model"
echo "3/3 predict: the files again, without their labels"
rm -f "$catalogue"
go_on "$spectrolabe" predict "$RUN/model" "$SPECTRA" --output "$catalogue" --workers "$WORKERS"

"$VENV/bin/python" - "$catalogue" <<'PYTHON'
import sys

from spectrolabe.catalogue import read_catalogue

table = read_catalogue(sys.argv[1])
table = table[0] if isinstance(table, tuple) else table
labels = [name.removeprefix("raw_e_") for name in table.colnames if name.startswith("raw_e_")]
shown = ["spectrum_id", "snr", *(c for name in labels for c in (name, f"e_{name}")), "flag_bad"]
few = table[shown][:8]
for name in few.colnames:
    if few[name].dtype.kind == "f":
        few[name].info.format = ".1f" if abs(few[name]).max() > 50 else ".2f"
few.pprint(max_width=-1)
good = int((~table["flag_bad"]).sum())
print(f"{sys.argv[1]}: {len(table)} stars, {good} of them without a flag that says bad")
PYTHON
