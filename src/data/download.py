"""Downloads into the user's cache folder, each file at most once."""

import json
import logging
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pooch
import requests

from ..common.errors import UserError
from ..common.locks import folder_lock
from ..common.logging import logger
from ..common.progress import Progress

KAGGLE_URL = (
    "https://www.kaggle.com/api/v1/datasets/download/paultimothymooney/chest-xray-pneumonia"
)
MENDELEY_URL = (
    "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
    "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded"
)
INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
INCEPTION_NAME = "pt_inception-2015-12-05-6726825d.pth"  # in the cache folder
KAGGLE_NAME, MENDELEY_NAME = "kaggle-chest-xray-pneumonia.zip", "mendeley-chest-xray-2017.zip"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
TIMEOUT = 60.0  # seconds without a byte after which a connection counts as stalled
RETRIES = 4
MEDMNIST_URL = "https://zenodo.org/records/10519652/files/pneumoniamnist_{size}.npz?download=1"
MEDMNIST_MD5 = {  # by pixels a side; MedMNIST publishes no other checksum
    64: "8f4eceb4ccffa70c672198ea285246c6",
    128: "05b46931834c231683c68f40c47b2971",
    224: "d6a3c71de1b945ea11211b03746c1fe1",
}
POLL_SECONDS = 1.0  # between checks of another process's download
MB = 1_000_000


def cache_folder() -> Path:
    """Return the user's cache folder for this project (on Linux below ``XDG_CACHE_HOME``)."""
    return Path(pooch.os_cache("chest-xray-gan"))


def download(
    url: str,
    name: str,
    sha256: str = "",
    auth: tuple[str, str] | None = None,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
    folder: Path | None = None,
    md5: str = "",
) -> Path:
    """Download ``url`` as ``name`` into the cache folder, unless it is there already.

    The file appears under its name only when it is complete. A connection that stalls or breaks
    is tried again with growing pauses.

    Args:
        url: address of the file.
        name: file name in the cache folder.
        sha256: expected checksum; empty if there is none.
        auth: user name and key for HTTP basic authentication.
        timeout: seconds without a byte after which a connection is given up.
        retries: attempts after the first one.
        folder: folder to use instead of the cache folder.
        md5: expected checksum where no SHA-256 was published.

    Raises:
        UserError: if the download fails or has another checksum.
    """
    folder = folder or cache_folder()
    kind, checksum = ("MD5", md5) if md5 else ("SHA-256", sha256)
    source = pooch.create(
        path=folder,
        base_url="",
        registry={name: f"{kind.replace('-', '').lower()}:{checksum}" if checksum else None},
        urls={name: url},
        retry_if_failed=retries,
    )
    pooch.get_logger().setLevel(logging.INFO)  # prints addresses, paths and retries
    try:
        with ExitStack() as stack:
            if not (folder / name).is_file():
                stack.enter_context(_only_download(folder))
            fetcher = pooch.HTTPDownloader(
                progressbar=_ProgressBar(name), timeout=timeout, auth=auth
            )
            return Path(source.fetch(name, downloader=fetcher))
    except requests.exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else "unknown"
        raise UserError(f"{_host(url)} answered with HTTP status {status} for {name}") from error
    except requests.exceptions.RequestException as error:
        raise UserError(
            f"{_host(url)} cannot be reached for {name} ({type(error).__name__}); "
            "check the connection, or get the file elsewhere and give its path"
        ) from error
    except ValueError as error:
        raise UserError(f"{name} from {_host(url)} has another {kind} than {checksum}") from error
    except OSError as error:
        raise UserError(f"{folder / name} cannot be written: {error}") from error


@contextmanager
def _only_download(folder: Path) -> Iterator[None]:
    """Wait for other processes' downloads to a folder; remove the files of killed ones."""
    folder.mkdir(parents=True, exist_ok=True)
    has_waited = False
    while True:
        with folder_lock(folder) as is_free:
            if is_free is not False:
                for stale in folder.glob("tmp*"):  # as pooch names them
                    stale.unlink()
                yield
                return
        if not has_waited:
            logger.info(f"waiting for another process's download to {folder}")
            has_waited = True
        time.sleep(POLL_SECONDS)


def kaggle_token() -> tuple[str, str] | None:
    """Return the user's Kaggle name and key from the environment or ``kaggle.json``, if any.

    Raises:
        UserError: if ``kaggle.json`` exists but is not a token.
    """
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if user and key:
        return user, key
    folder = os.environ.get("KAGGLE_CONFIG_DIR") or str(Path.home() / ".kaggle")
    file = Path(folder, "kaggle.json")
    if not file.is_file():
        return None
    try:
        token = json.loads(file.read_text(encoding="utf-8"))
        return str(token["username"]), str(token["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a Kaggle token; download a new one from Kaggle") from error


def downloaded_kermany() -> Path | None:
    """Return the chest X-ray archive in the cache folder, or None."""
    archives = (cache_folder() / name for name in (KAGGLE_NAME, MENDELEY_NAME))
    return next((archive for archive in archives if archive.is_file()), None)


def download_kermany() -> Path:
    """Download the chest X-ray archive: Kaggle's with the user's token, else Mendeley's.

    An archive in the cache folder is used whether or not there is a token now. Neither publisher
    states a checksum, so none is checked here.

    Raises:
        UserError: if the download fails or is not a zip archive.
    """
    if (archive := downloaded_kermany()) is not None:
        return archive
    token = kaggle_token()
    if token:
        archive = download(KAGGLE_URL, KAGGLE_NAME, auth=token)
    else:
        archive = download(MENDELEY_URL, MENDELEY_NAME)
    if not zipfile.is_zipfile(archive):
        archive.unlink()
        raise UserError(
            f"what was downloaded as {archive.name} is no zip archive and was removed; "
            "get the archive with a browser and give its path as data.path"
        )
    return archive


def download_inception() -> Path:
    """Download the FID network's weights (95,628,359 bytes) and check their published SHA-256."""
    return download(INCEPTION_URL, INCEPTION_NAME, INCEPTION_SHA256)


def downloaded_medmnist(size: int) -> Path | None:
    """Return the PneumoniaMNIST file of so many pixels in the cache folder, or None."""
    file = cache_folder() / f"pneumoniamnist_{size}.npz"
    return file if file.is_file() else None


def download_medmnist(size: int) -> Path:
    """Download the PneumoniaMNIST file of 64, 128 or 224 pixels and check its published MD5."""
    name = f"pneumoniamnist_{size}.npz"
    return download(MEDMNIST_URL.format(size=size), name, md5=MEDMNIST_MD5[size])


class _ProgressBar:
    """Adapter of ``Progress`` to the progress bar that pooch expects."""

    def __init__(self, name: str) -> None:
        self._label = f"downloading {name}"
        self._size = self._done = 0  # bytes
        self._stack = ExitStack()

    @property
    def total(self) -> int:
        """Size of the download in bytes, which pooch sets as each attempt begins."""
        return self._size

    @total.setter
    def total(self, size: int) -> None:
        self.close()
        self._size, self._done = size, 0
        self._shown = self._stack.enter_context(Progress(self._label, size / MB, "MB"))

    def update(self, size: int) -> None:
        """Count ``size`` more bytes; pooch counts a shorter last chunk as a whole one."""
        if self._size:
            size = min(size, self._size - self._done)
        self._done += size
        self._shown.advance(size / MB)

    def reset(self) -> None:
        """Do nothing; pooch calls this before it sets the total again."""

    def close(self) -> None:
        """Close the progress; pooch calls this at the end."""
        self._stack.close()


def _host(url: str) -> str:
    """Return the host of an address."""
    return url.partition("//")[2].partition("/")[0]
