"""What each capability is asked with. Members that are not listed here are ignored.

The names are those of the contract, some in snake case. The schemas that the plugin registers are made of
these.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from repoagent.relative import RelativePath

Text = str | None


class Place(Struct, kw_only=True):
    """A place below a root."""

    root: Annotated[Text, Meta(description="Name or path of the root; the first one if left out.")] = None
    path: Annotated[Text, Meta(description="Path relative to the root; the root itself if left out.")] = (
        None
    )
    pathBase64: Annotated[
        Text, Meta(description="The bytes of the path in base64, where it is not UTF-8.")
    ] = None

    def place(self) -> RelativePath:
        """The path, parsed."""
        if self.pathBase64 is not None:
            return RelativePath.parse_base64(self.pathBase64)
        return RelativePath.parse(self.path or "")


class Tree(Place, kw_only=True):
    """`repo.tree`."""

    depth: Annotated[int, Meta(ge=1, description="How many levels down; all if left out.")] | None = None
    limit: (
        Annotated[int, Meta(ge=1, description="The most entries; the setting `maxResults` bounds it.")]
        | None
    ) = None


class Analyze(Place, kw_only=True):
    """`repo.analyze`."""

    query: Annotated[Text, Meta(description="A text to look for in the files.")] = None
    max_files: Annotated[int, Meta(ge=1, description="The most files to count.")] | None = None


class Search(Place, kw_only=True):
    """`repo.search`."""

    query: Annotated[str, Meta(description="What to look for in each line.")]
    max_results: (
        Annotated[int, Meta(ge=1, description="The most lines; the setting `maxResults` bounds it.")] | None
    ) = None
    case_sensitive: bool = True
    regex: Annotated[bool, Meta(description="Whether `query` is an expression of RE2.")] = False


class FileRead(Place, kw_only=True):
    """`repo.file.read`."""

    encoding: Annotated[
        Literal["utf-8", "base64"] | None,
        Meta(description="How `content` comes; text where it is UTF-8, if left out."),
    ] = None
    offset: Annotated[int, Meta(ge=0, le=1 << 62, description="The first byte.")] = 0
    max_bytes: (
        Annotated[int, Meta(ge=1, description="The most bytes; the setting `maxOutputBytes` bounds it.")]
        | None
    ) = None


class FileWrite(Place, kw_only=True):
    """`repo.file.write`."""

    content: str = ""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    mode: Literal["overwrite", "append", "truncate"] = "overwrite"


class FileChange(Struct, kw_only=True):
    """One member of `changes`."""

    path: Text = None
    pathBase64: Text = None
    content: str = ""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    mode: Literal["overwrite", "append", "truncate", "create", "delete"] = "overwrite"

    def place(self) -> RelativePath:
        """The path, parsed."""
        return Place(path=self.path, pathBase64=self.pathBase64).place()


class Patch(Struct, kw_only=True):
    """`repo.patch`."""

    root: Text = None
    changes: list[FileChange] = []
    diff: Annotated[Text, Meta(description="A unified diff.")] = None
    dry_run: Annotated[bool, Meta(description="Whether to find out only if it could be done.")] = False


class Command(Struct, kw_only=True):
    """`repo.command`."""

    command: Annotated[str, Meta(description="The name of a command in the setting `commands`.")]
    args: list[str] = []
    timeout_seconds: Annotated[float | None, Meta(description="Less time than the command's own.")] = None
    root: Text = None


class Commit(Place, kw_only=True):
    """`repo.commit`; `path` is where the repository is."""

    message: str
    paths: Annotated[
        list[str], Meta(description="What to commit, relative to the root; all that changed if empty.")
    ] = []
    signoff: bool = False
