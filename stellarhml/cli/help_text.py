"""What `stellarhml --help` and the `--help` of each command say."""

MAIN = """\
Effective temperature, surface gravity and metallicity from high-resolution stellar spectra, by treating spectra as
sets of spectral lines: every spectrum of a model grid is decomposed into lines, the parameters of every line are
interpolated over the grid, and an observed spectrum is compared with what the lines give between the grid's nodes.
"""

MAIN_END = """\
examples:
  stellarhml demo
  stellarhml build --phoenix PHOENIX/ --teff 5000 6000 --wavelength 8450 8700 --out generator.joblib
  stellarhml predict --generator generator.joblib --medium vacuum star.fits
  stellarhml inspect generator.shml star.fits
  stellarhml benchmark --search nodes
  stellarhml explore
  stellarhml build --help

exit codes:
  0    everything was done
  1    predict, benchmark, inspect: some of the spectra or files could not be done; the table or a line says why
  2    nothing was done: wrong arguments, or an error, told in one line on standard error
  130  interrupted
"""

DEMO = """\
Build a generator on the packaged grid (66 solar-type spectra, 8450-8700 angstrom), add noise to six spectra between
its nodes, infer their labels, and compare them with the truth. Takes under a minute on two cores.
"""

DEMO_END = """\
output, in the folder --out:
  stars.csv         truth, inferred value, error and standard deviation of each label and star, and seconds
  figure.png        a star, its model and the difference; the manifold of its strongest line
  generator.joblib  the generator, for `stellarhml predict`; generator.joblib.json says what it is
  star_1.fits       the first star with its noise, as an example of what `stellarhml predict` reads
The table also goes to standard output. Standard deviations count the noise and what held-out nodes tell of the error of
the generator itself.

examples:
  stellarhml demo
  stellarhml demo --search bayes --out demo
  stellarhml predict --generator stellarhml-demo/generator.joblib --medium vacuum stellarhml-demo/star_1.fits
"""

BUILD = """\
Read PHOENIX-ACES spectra from a local folder, decompose them into lines, and save a spectrum generator.
"""

BUILD_END = """\
input:
  FOLDER has PHOENIX's own layout: WAVE_PHOENIX-ACES-AGSS-COND-2011.fits and, below it, files like
  PHOENIX-ACES-AGSS-COND-2011/Z-0.0/lte05800-4.50-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits.
  Ranges are closed, and take what the folder has between their ends. Spectra are used at their own resolution: to
  infer from broadened spectra, broaden the grid first. Memory: all spectra at once, 4 bytes a pixel.

output:
  FILE: the generator. With the ending .shml it holds no code, and is safe to pass on and to open. With any other it
  is a Python pickle, which runs the code of its author (only open those that you trust), and FILE.json belongs to it.

method:
  The defaults differ from the paper: lines that saturate, fitted by Levenberg-Marquardt; what lines leave over kept in
  a basis of low rank; piecewise cubic manifolds. --paper takes the paper's settings; they need a band of more than
  120 angstrom, of which lines within 30 angstrom of either end are left out.

examples:
  stellarhml build --phoenix PHOENIX/ --out generator.shml
  stellarhml build --phoenix PHOENIX/ --teff 5000 6000 --logg 4 5 --feh -0.5 0 --wavelength 8450 8700 --out g.joblib

exit codes:
  0 done, 2 error
"""

PREDICT = """\
Infer labels of observed spectra with a generator that `stellarhml build` or `stellarhml demo` saved.
"""

PREDICT_END = """\
input:
  SPECTRUM is a spectrum of HPF or IGRINS as their pipelines write it (FITS), or a table of wavelength, flux and, if
  known, the standard deviation of the flux and the number of the order: text or CSV (# begins a comment), ECSV, a FITS
  table, npz or Starfish's HDF5. Columns are found by name, or taken in this order. Wavelengths are in angstrom unless
  the file states a unit. Pixels whose flux or error is not finite are masked, and those where a column called mask is
  not 0. Fluxes may be in any unit and need not be normalised.
  With --resolving-power a spectrum is taken as the telescope delivers it: radial velocity, rotation and the continuum
  of each order are fitted, on its own pixels.
  Without it, the spectrum must be at rest (radial velocity removed) and of the grid's resolution; it is interpolated
  linearly onto the generator's pixels, and what it does not cover is masked.

the Earth's atmosphere, with --resolving-power:
  Its absorption must be dealt with, for the model has none; files of IGRINS are divided by a standard already.
  --tellurics takes a transmission: a table or npz of vacuum wavelength and transmission (1 where the air is clear).
  Pixels below --tellurics-limit are left out, or the spectrum is divided by it, which asks for a transmission of the
  resolution of the spectrum. Pixels that it does not cover are left out. --standard divides by an A0V star seen by the
  same spectrograph, and leaves out its hydrogen lines. The air does not move with the star: both need wavelengths as
  seen from the telescope, as HPF and IGRINS deliver them, and not shifted to the barycenter.

output, a table on standard output and in --out (with units in ECSV and FITS):
  spectrum, status  the file; ok, flagged (see note) or failed
  <label>, _std     label and its standard deviation: noise, and the generator's own error
  rv, vsini, _std   velocities in km/s, only with --resolving-power
  coverage, rms     share of the generator's pixels that the spectrum has; residual in units of the continuum; only at
                    rest
  chi2              mean squared residual in units of the errors, if these are known
  n_pixels          pixels in use, only with --resolving-power
  seconds           time of this spectrum
  flags, note       what is doubtful (a label at the edge of the grid, a poor fit, rejected pixels), or why it failed
  With --json, standard output holds the table as one JSON document and nothing else: a list with an object for each
  file, null for what is not known, and the path of its `figure`. Errors and the progress bar go to standard error.

examples:
  stellarhml predict --generator g.shml --resolving-power file --figures pictures --out stars.csv night1/*.fits
  stellarhml predict --generator g.shml --resolving-power file --tellurics air.npz --orders 3-10,15 hpf.fits
  stellarhml predict --generator g.shml --resolving-power file --standard a0v.fits --json hpf.fits
  stellarhml predict --generator g.shml --resolving-power file --format igrins star.npz
  stellarhml predict --generator g.shml --resolving-power 45000 --medium vacuum --jobs 4 star.ecsv
  stellarhml predict --generator generator.joblib --medium air --out labels.csv at-rest/*.txt

exit codes:
  0 all done, 1 some spectra failed and the others were done, 2 none was done, 130 interrupted: the table has what was
  done before
"""

BENCHMARK = """\
The experiment of the paper, as a cross-validation on any grid: infer the labels of a grid's own spectra, and compare
them with the truth. By default with generators that do not know the nodes that they are asked for.
"""

BENCHMARK_END = """\
stars:
  left-out  inner nodes. Those of one fold are held out together, and no two of them are neighbours along a label; a
            generator is made of all others. Lines are found once, for all spectra; all that is interpolated, and the
            error of the generator, is learnt anew without the fold. The steps of the grid are doubled around a star:
            the errors are larger than those of a star between nodes that are all there. A label of two values has no
            inner one: stars then lie at an end of it, where the bounds of the search make its errors smaller.
  planes    the same with all nodes of every N-th inner value of Teff held out together (N: --folds).
  seen      the paper's own: all nodes, and a generator that was made of them.

search:
  Both take Teff to be known to 500 K, as the paper did. nodes: the default of `stellarhml predict`. bayes: 30 random
  and 20 guided calls and then the same polish; with --paper, where it is called "paper" in the tables, its best call is
  the result. --calls 120 --initial 100 is the published version. Without noise all pixels count alike; with --snr they
  count by their errors, but for the paper's inference, which does not know them.
  --paper-generator interpolates on a full grid: it is for nodes that are seen, and for planes. The paper's margins of
  30 and 60 angstrom shrink with the window.

output:
  Mean, median and standard deviation of the absolute errors below and above 7000 K, beside those that the paper gives
  for its own run (seen, no noise, Teff known to 500 K, 8038-12849 angstrom); seconds are those of one star.
  --out     a row for each star and search: truth, inferred value, error and standard deviation of each label, rms of
            the residual, seconds; status (ok, flagged or failed) and why
  --json    the settings and the errors
  --figure  the errors of each label against Teff

examples:
  stellarhml benchmark --search nodes --figure errors.png
  stellarhml benchmark --nodes seen --search bayes --paper --max-nodes 20 --out stars.csv --json errors.json
  stellarhml benchmark --phoenix PHOENIX/ --teff 4000 6000 --wavelength 8450 8700 --max-nodes 50 --snr 100 --jobs 4

exit codes:
  0 all done, 1 some stars failed and the others were done, 2 none was done
"""

EXPLORE = """\
Open a page in the browser with a slider for each label: the spectrum follows, with its lines, and an observed spectrum
lies underneath. Needs bokeh: pip install "stellarhml[explore]".
"""

EXPLORE_END = """\
what is shown:
  Without --generator, one of the packaged grid (66 solar-type spectra, 8450-8700 angstrom); it is built when it is
  first asked for, in under a minute, and kept in the folder of downloads (STELLARHML_DATA, or ~/.cache/stellarhml).
  SPECTRUM is a file as for `stellarhml predict`; one that cannot be read is told on the page. docs/explore.md says what
  each part of the page is.

who can see it:
  This machine alone, unless --address says otherwise; then everyone who reaches that address and knows a name of
  --origin. Nothing is uploaded. A generator that is a pickle (not .shml) runs its author's code when it is opened:
  --trust-pickle says that you trust the author.

examples:
  stellarhml explore
  stellarhml explore --generator generator.shml --medium vacuum star.txt
  stellarhml explore --generator generator.shml --port 8000 --no-browser night1/*.fits

exit codes:
  0 ended by Ctrl-C, 2 error
"""

INSPECT = """\
Tell what is in files: saved generators, and observed spectra. Which a file is, its content tells.
"""

INSPECT_END = """\
output, on standard output:
  a generator  format and class; the labels with their ranges, nodes, band and pixels; lines, and the tables that hold
               them; values at which the grid jumps; the error that the generator has of its own; identity of the
               training grid, size, and versions of the packages that wrote the file. All checksums are compared; a file
               that is damaged is an error. A .shml file holds no code and is opened. A joblib file is a pickle, which
               runs the code of its author when it is opened: only what its .json file says is told, unless --open.
  a spectrum   format, instrument, object, date; band, resolving power that the format implies, pixels, masked pixels,
               signal-to-noise ratio, and notes of what reading did. With --orders each order too, by its number.
  --json prints the same as one JSON document, a list with an object for each file, and nothing else.

examples:
  stellarhml inspect generator.shml
  stellarhml inspect --open stellarhml-demo/generator.joblib
  stellarhml inspect --orders hpf.fits igrins.spec_a0v.fits
  stellarhml inspect --json generator.shml night1/*.fits

exit codes:
  0 all done, 1 some files are neither, or damaged, and the others were told, 2 none was told
"""
