"""Table files: what is not harmonized comes out as it went in, and what cannot be read says why."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayescombat.errors import DataError
from bayescombat.tables import How, TableFile, check_added, read_table, write_table

PLAIN = "id,site,left,right,note,day,ok\n007,01,2.50,3,NA,2020-01-02,True\n008,02,n/a,4.0,a;b,,False\n"


def written(tmp_path: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def result(values: list[list[float]], features: list[str]) -> xr.Dataset:
    """What a harmonization returns, with an sd of a tenth of the value."""
    mean = np.array(values, dtype=float)
    dims = ("obs", "feature")
    return xr.Dataset({"mean": (dims, mean), "sd": (dims, mean / 10)}, {"feature": features})


def again(file: TableFile, harmonized: xr.Dataset, path: Path, names: tuple[str, ...] = ()) -> str:
    assert write_table(path, file, harmonized, names) == []
    return path.read_bytes().decode("utf-8")


# ---------------------------------------------------------------- text


def test_numbers_are_numbers_and_names_stay_names(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, PLAIN)).table
    assert list(table.index) == ["007", "008"] and table["site"].tolist() == ["01", "02"]
    np.testing.assert_array_equal(table["left"], [2.5, np.nan])
    assert table["right"].tolist() == [3, 4] and table["ok"].dtype == bool
    assert table["note"].isna().tolist() == [True, False]


def test_what_did_not_change_keeps_its_text(tmp_path: Path) -> None:
    file = read_table(written(tmp_path, PLAIN))
    # Of the features one cell changed, one is missing and one has the value that it had.
    text = again(file, result([[2.75, 3], [np.nan, 1 / 3]], ["left", "right"]), tmp_path / "out.csv")
    expected = PLAIN.replace("2.50,3,", "2.75,3,").replace("n/a,4.0,", f"n/a,{1 / 3!r},")
    assert text == expected


def test_added_columns_come_last(tmp_path: Path) -> None:
    file = read_table(written(tmp_path, PLAIN))
    text = again(file, result([[2, 3], [np.nan, 5]], ["left", "right"]), tmp_path / "out.csv", ("sd",))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == [*PLAIN.splitlines()[0].split(","), "left_sd", "right_sd"]
    assert rows[1][-2:] == ["0.2", repr(0.3)] and rows[2][-2:] == ["", "0.5"]


def test_columns_to_be_added_must_not_be_there(tmp_path: Path) -> None:
    file = read_table(written(tmp_path, "id,left,left_sd\na,1,2\n"))
    with pytest.raises(DataError, match="Expected no columns 'left_sd'"):
        check_added("out.csv", file, ["left"], ["sd"])
    check_added("out.csv", file, ["left"], ["lower"])


def test_a_table_that_is_wider_than_a_sheet_of_excel_is_told_so(tmp_path: Path) -> None:
    file, many = read_table(written(tmp_path, PLAIN)), [f"gene_{number}" for number in range(16_378)]
    with pytest.raises(DataError, match="16,384 columns for an Excel file, found 2 and 16,385"):
        check_added("out.xlsx", file, many, ["sd"])
    check_added("out.xlsx", file, many[1:], ["sd"])
    check_added("out.csv", file, many, ["sd"])


def test_a_value_that_became_missing_is_not_written_as_it_was(tmp_path: Path) -> None:
    file = read_table(written(tmp_path, "id,left\na,1.5\nb,NA\n"))
    assert again(file, result([[np.nan], [np.nan]], ["left"]), tmp_path / "out.csv") == "id,left\na,\nb,NA\n"


@pytest.mark.parametrize("seed", range(3))
def test_every_bit_of_a_number_is_read_and_written(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((50, 2)) * 10.0 ** rng.integers(-12, 12, (50, 2))
    path = written(tmp_path, "x,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in values.tolist()))
    file = read_table(path)
    np.testing.assert_array_equal(file.table.to_numpy(), values)
    write_table(tmp_path / "out.csv", file, result((values / 3).tolist(), ["x", "y"]))
    np.testing.assert_array_equal(read_table(tmp_path / "out.csv").table.to_numpy(), values / 3)


@pytest.mark.parametrize(
    ("text", "separator", "decimal"),
    [
        ("id;left;size\na;2,50;1\nb;2,75;2\n", ";", ","),
        ("id;left\na;2.50\nb;1,234\n", ";", "."),
        ("id;left;size\na;2,500;0,250\nb;2,750;1,000\n", ";", ","),
        ("id\tleft\na\t2.50\nb\t2.75\n", "\t", "."),
        ('id,left\na,"2,50"\nb,"2,75"\n', ",", ","),
        ('id,left\na,"1,234"\nb,"2,751"\n', ",", "."),
        ('"id, text";left\na;2.5\n', ";", "."),
    ],
)
def test_separators_and_decimal_commas_are_seen(tmp_path: Path, text: str, separator: str, decimal: str) -> None:
    file = read_table(written(tmp_path, text))
    assert file.text is not None
    assert (file.text.separator, file.text.decimal) == (separator, decimal)
    assert len(file.notes) == (separator != ",") + (decimal == ",")
    if decimal == ",":
        assert file.table["left"].tolist() == [2.5, 2.75]


def test_a_text_with_decimal_commas_is_written_with_them(tmp_path: Path) -> None:
    file = read_table(written(tmp_path, "id;left;size\r\na;2,50;1,0\r\nb;2,75;2,0\r\n"))
    text = again(file, result([[2.25], [2.75]], ["left"]), tmp_path / "out.csv", ("sd",))
    assert text == "id;left;size;left_sd\r\na;2,25;1,0;0,225\r\nb;2,75;2,0;0,275\r\n"


def test_what_the_user_says_goes_before_what_is_seen(tmp_path: Path) -> None:
    path = written(tmp_path, "id;left\na;2,50\nb;2,75\n")
    assert read_table(path, How(decimal=".")).table["left"].tolist() == ["2,50", "2,75"]
    assert list(read_table(path, How(separator="|")).table) == ["id;left"]


@pytest.mark.parametrize(
    ("out", "start"),
    [("out.tsv", b"id\tleft\na\t9.0\n"), ("out.csv", b"id,left\na,9.0\n")],
)
@pytest.mark.parametrize("name", ["table.tsv", "table.csv"])
def test_the_ending_says_what_divides_a_text(tmp_path: Path, name: str, out: str, start: bytes) -> None:
    path = written(tmp_path, "id,left\na,1\n".replace(",", "\t" if name.endswith("tsv") else ","), name)
    assert again(read_table(path), result([[9]], ["left"]), tmp_path / out).encode() == start


def test_packed_text_is_read_and_written(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(PLAIN.encode()), "table.csv.gz")
    write_table(tmp_path / "out.csv.gz", read_table(path), result([[2.5], [1]], ["left"]))
    text = gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode()
    assert text == PLAIN.replace("n/a", "1.0")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marked_encodings_are_seen_and_kept(tmp_path: Path, encoding: str) -> None:
    text = "site,left\nZürich,1\nGenève,2\n"
    file = read_table(written(tmp_path, text.encode(encoding)))
    assert file.table["site"].tolist() == ["Zürich", "Genève"]
    write_table(tmp_path / "out.csv", file, result([[1], [2]], ["left"]))
    assert (tmp_path / "out.csv").read_bytes() == text.encode(encoding)


def test_other_encodings_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "site,left\nbern,1\nZürich,2\n".encode("cp1252"))
    with pytest.raises(DataError, match="Expected text in utf-8, found the byte 0xfc in line 3.*--encoding cp1252"):
        read_table(path)
    assert read_table(path, How(encoding="cp1252")).table["site"].tolist() == ["bern", "Zürich"]
    with pytest.raises(DataError, match="name of an encoding.*'cp12x'"):
        read_table(path, How(encoding="cp12x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an empty file"),
        ("\n\n", "found an empty file"),
        ("id,left,left\na,1,2\n", "every column name once, found 1 more than once: 'left'"),
        ("id,left\na,1\nb,2,3\n", "Expected 2 cells in every line, found 3 in line 3"),
        ("id,left,right\na,1,2\nb,2\n", "Expected 3 cells in every line, found 2 in line 3"),
        ("id,left\na,1,\nb,2,\n", "as many column names as columns"),
        ('id,left\na,"1\nb,2\n', "line 3, which cannot be read.*quotation mark that is not closed"),
    ],
)
def test_text_that_is_no_table_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, text))


def test_rows_are_called_by_a_first_column_of_names(tmp_path: Path) -> None:
    def labels(text: str, *index: str) -> list[object]:
        return list(read_table(written(tmp_path, text), How(index=index)).table.index)

    assert labels("id,left\na,1\nb,2\n") == ["a", "b"]
    assert labels("site,left\na,1\na,2\n") == [1, 2]
    assert labels(",left\n5,1\n7,2\n") == ["5", "7"]
    assert labels("left,id\n1,007\n2,008\n", "id") == ["007", "008"]
    assert labels("id,day,left\na,1,3\na,2,4\n", "id", "day") == ["a/1", "a/2"]
    with pytest.raises(DataError, match="every label of 'id' once, found 1 in several rows: 'a'"):
        labels("id,left\na,1\na,2\n", "id")
    with pytest.raises(DataError, match="column of row labels 'idd'.*Did you mean 'id'"):
        labels("id,left\na,1\na,2\n", "idd")


@pytest.mark.parametrize("text", [",left\n5,1.50\n7,2\n", "left\n5,1.50\n7,2\n"])
def test_columns_without_a_name_are_no_features_and_stay(tmp_path: Path, text: str) -> None:
    file = read_table(written(tmp_path, text))
    assert list(file.table) == ["left"] and list(file.table.index) == ["5", "7"]
    assert again(file, result([[1.5], [3]], ["left"]), tmp_path / "out.csv") == text.replace(",2\n", ",3.0\n")


def test_a_column_that_names_rows_is_no_feature(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "id,left\n5,1\n7,2\n"), How(index=("id",))).table
    assert table["id"].tolist() == ["5", "7"]


def test_a_column_that_is_nearly_of_numbers_is_told(tmp_path: Path) -> None:
    cells = [*map(str, range(20)), "2.5mm"]
    file = read_table(written(tmp_path, "id,left\n" + "".join(f"x{cell},{cell}\n" for cell in cells)))
    assert len(file.notes) == 1
    assert "'left' is of numbers but for 1 cell, such as '2.5mm' in the row 'x2.5mm'" in file.notes[0]


def test_blanks_after_separators_are_no_part_of_names(tmp_path: Path) -> None:
    file = read_table(written(tmp_path, 'id, left, note\na, 1.5, "x, y"\n'))
    assert list(file.table) == ["id", "left", "note"] and file.table["note"].tolist() == ["x, y"]


def test_a_line_may_be_long(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    names = [f"gene_{number:0200d}" for number in range(limit // 200)]
    file = read_table(written(tmp_path, f"id,{','.join(names)}\na{',1.5' * len(names)}\nb{',2.5' * len(names)}\n"))
    assert list(file.table)[1:] == names and file.table[names[-1]].tolist() == [1.5, 2.5]
    assert csv.field_size_limit() == limit


# ---------------------------------------------------------------- other files


def test_parquet_keeps_columns_and_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame(
        {
            "site": pd.Categorical(["a", "b"]),
            "age": pd.array([20, None], dtype="Int64"),
            "left": np.array([1.5, 2.5], dtype=np.float32),
            "day": pd.to_datetime(["2020-01-01", "2021-01-01"]),
        },
        pd.Index(["s1", "s2"], name="sub"),
    )
    table.to_parquet(tmp_path / "table.parquet")
    file = read_table(tmp_path / "table.parquet")
    write_table(tmp_path / "out.parquet", file, result([[1.25], [np.nan]], ["left"]), ("sd",))
    found = pd.read_parquet(tmp_path / "out.parquet")
    kept = ["site", "age", "day"]
    pd.testing.assert_frame_equal(found[kept], table[kept])
    assert list(found) == [*table, "left_sd"]
    np.testing.assert_array_equal(found["left"], [1.25, np.nan])


def test_excel_reads_what_cells_are(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    rows = pd.DataFrame({"id": ["007", "008"], "left": ["2.5", "n/a"], "right": [1.5, None]})
    rows["day"] = pd.Timestamp("2020-01-01")
    with pd.ExcelWriter(tmp_path / "table.xlsx", engine="openpyxl") as book:
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="read me", index=False)
        rows.to_excel(book, sheet_name="data", index=False)
    with pytest.raises(DataError, match="a sheet among 'read me', 'data', found 'dat'. Did you mean 'data'"):
        read_table(tmp_path / "table.xlsx", How(sheet="dat"))
    assert "'read me' is read" in read_table(tmp_path / "table.xlsx").notes[0]
    file = read_table(tmp_path / "table.xlsx", How(sheet="data"))
    assert list(file.table.index) == ["007", "008"]
    np.testing.assert_array_equal(file.table[["left", "right"]], [[2.5, 1.5], [np.nan, np.nan]])
    write_table(tmp_path / "out.xlsx", file, result([[9], [np.nan]], ["left"]))
    found = pd.read_excel(tmp_path / "out.xlsx", dtype={"id": str})
    assert found["id"].tolist() == ["007", "008"] and found["day"].tolist() == rows["day"].tolist()
    np.testing.assert_array_equal(found["left"], [9, np.nan])


def test_times_of_a_zone_are_text_in_excel(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    times = pd.to_datetime(["2020-01-01 12:00", None]).tz_localize("Europe/Zurich")
    pd.DataFrame({"left": [1.5, 2.5], "time": times}).to_parquet(tmp_path / "table.parquet")
    write_table(tmp_path / "out.xlsx", read_table(tmp_path / "table.parquet"), result([[1], [2]], ["left"]))
    assert pd.read_excel(tmp_path / "out.xlsx")["time"].tolist()[0] == "2020-01-01 12:00:00+01:00"


def test_excel_gets_text_as_text_or_says_why_not(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    file = read_table(written(tmp_path, "id,left,=note\na,1,=1+1\nb,2,\n"))
    write_table(tmp_path / "out.xlsx", file, result([[1], [2]], ["left"]))
    assert read_table(tmp_path / "out.xlsx").table["=note"].dropna().tolist() == ["=1+1"]
    file = read_table(written(tmp_path, "id,left,note\na,1,x\x01y\n"))
    with pytest.raises(DataError, match="an Excel file can hold, found control characters"):
        write_table(tmp_path / "other.xlsx", file, result([[1]], ["left"]))
    assert not (tmp_path / "other.xlsx").exists()


@pytest.mark.parametrize("ending", [".xlsx", ".parquet"])
def test_files_of_another_kind_are_told(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="file.*found something else"):
        read_table(written(tmp_path, PLAIN, f"table{ending}"))


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".xlsx"])
@pytest.mark.parametrize("before", [".csv", ".parquet", ".xlsx", ".nc"])
def test_a_table_goes_from_any_file_to_any_other(tmp_path: Path, before: str, ending: str) -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"id": ["007", "008"], "site": ["a", "b"], "left": [1.5, 2.5], "age": [20, 30]})
    path = tmp_path / f"table{before}"
    if before == ".csv":
        table.to_csv(path, index=False)
    elif before == ".parquet":
        table.to_parquet(path)
    elif before == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.set_index("id").to_xarray().to_netcdf(path, engine="h5netcdf")
    write_table(tmp_path / f"out{ending}", read_table(path), result([[1.25], [2.25]], ["left"]), ("sd",))
    found = read_table(tmp_path / f"out{ending}").table
    assert list(found.index) == ["007", "008"]
    assert [name for name in found if name != "id"] == ["site", "left", "age", "left_sd"]
    assert found["left"].tolist() == [1.25, 2.25] and found["site"].tolist() == ["a", "b"]


def test_netcdf_holds_the_harmonized_dataset_and_can_be_read_again(tmp_path: Path) -> None:
    file = read_table(written(tmp_path, PLAIN.replace("note", "a/b")))
    harmonized = result([[2.75, 3], [np.nan, 5]], ["left", "right"]).assign_coords(obs=["007", "008"])
    assert write_table(tmp_path / "out.nc", file, harmonized, ("sd",)) == ["a/b"]
    found = xr.load_dataset(tmp_path / "out.nc", engine="h5netcdf")
    xr.testing.assert_equal(found[["mean", "sd"]].drop_vars(["id", "site", "day", "ok"]), harmonized)
    assert list(read_table(tmp_path / "out.nc", How(index=("id", "site"))).table.index) == ["007/01", "008/02"]
    table = read_table(tmp_path / "out.nc").table
    assert list(table.index) == ["007", "008"] and table["site"].tolist() == ["01", "02"]
    np.testing.assert_array_equal(table[["left", "right"]], harmonized["mean"])


def test_netcdf_without_rows_or_with_several_features_says_so(tmp_path: Path) -> None:
    path = tmp_path / "table.nc"
    xr.Dataset({"x": (("a", "b"), np.ones((2, 2)))}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(DataError, match="a Dataset with a dim 'obs'.*found the dims 'a', 'b'"):
        read_table(path)
    wide = (("obs", "feature"), np.ones((2, 2)))
    xr.Dataset({"x": wide, "y": wide}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(DataError, match="or one called 'mean', found 'x', 'y'"):
        read_table(path)
    with pytest.raises(DataError, match="Expected a netCDF file"):
        read_table(written(tmp_path, PLAIN, "other.nc"))


def test_where_there_is_no_file_the_nearest_name_is_proposed(tmp_path: Path) -> None:
    written(tmp_path, PLAIN, "thickness.csv")
    with pytest.raises(FileNotFoundError, match="found no file. Did you mean 'thickness.csv'"):
        read_table(tmp_path / "thicknes.csv")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        read_table(tmp_path / "nowhere" / "thickness.csv")
    with pytest.raises(DataError, match="Save an old Excel file as .xlsx"):
        read_table(tmp_path / "thickness.xls")


def test_a_title_above_the_names_of_a_sheet_is_told(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame([["Radiomics", None, None], ["id", "site", "left"], ["a", "b", 2.5]])
    frame.to_excel(tmp_path / "table.xlsx", header=False, index=False)
    with pytest.raises(DataError, match="names of 3 columns in the first line.*found 1: 'Radiomics'"):
        read_table(tmp_path / "table.xlsx")


def test_rows_are_called_by_whole_numbers_that_are_all_different(tmp_path: Path) -> None:
    read = read_table(written(tmp_path, "id,left\n50002,1\n50003,2\n")).table
    assert list(read.index) == ["50002", "50003"] and read["id"].tolist() == [50002, 50003]
    assert list(read_table(written(tmp_path, "id,left\n50002,1\n50002,2\n")).table.index) == [1, 2]
