from pathlib import Path

import pytest

from hf_mner.reproduction.tables import SCALES, PaperTable, TableRow, load_table, table_names
from hf_mner.training.recipes import RECIPES, load_recipe

RECIPES_DIR = Path(__file__).parents[3] / "recipes"
PAPERS = {  # what the papers hold that can be rerun
    "scanner": "table1 table3 table4 table5 table6 table7 table8 table12 table14 table15 figure5",
    "mmavk": "table2 table3 table4 figure4",
    "ham_learning": "table1 table2 table3 table4 table5",
    "mner_qg": "table2 table3 table4 table5 figure4",
}


@pytest.mark.parametrize("system", PAPERS)
def test_every_table_of_the_papers_is_there(system):
    expected = {f"{system}-{part}" for part in PAPERS[system].split()}
    assert expected <= set(table_names())


@pytest.mark.parametrize("name", table_names())
def test_every_row_names_a_recipe_that_takes_its_settings(name):
    table = load_table(name)
    assert table.system in RECIPES
    assert name.startswith(f"{table.system}-")
    for row in table.rows:
        for scale in SCALES:
            if table.why_unavailable(row, scale):
                continue
            files = table.recipe_files(row, scale)
            assert files, f"{row.name} has no recipe at {scale} scale and does not say why"
            for dataset, file in files.items():
                recipe = load_recipe(RECIPES_DIR / file, {"dataset": dataset, **table.settings(row, scale, dataset)})
                assert recipe.dataset == dataset


@pytest.mark.parametrize("name", table_names())
def test_rows_differ_in_their_settings(name):
    """Two rows of one recipe that were trained alike would show the same numbers under two names."""
    table = load_table(name)
    for scale in SCALES:
        seen = {}
        for row in table.rows:
            for dataset, file in table.recipe_files(row, scale).items():
                if not table.why_unavailable(row, scale):
                    recipe = load_recipe(
                        RECIPES_DIR / file, {"dataset": dataset, **table.settings(row, scale, dataset)}
                    )
                    key = (dataset, str(recipe), row.evaluate_on)
                    assert key not in seen, f"{row.name} is {seen.get(key)} again ({scale}, {dataset})"
                    seen[key] = row.name


def test_differences_become_figures():
    table = load_table("scanner-table7")
    assert table.printed(table.row("-WKK"), "twitter2017") == {"Pre.": 89.89, "Rec.": 90.23, "F1": 90.06}
    assert table.printed(table.row("SCANNER"), "twitter2015")["F1"] == 79.38
    assert table.printed(table.row("SCANNER"), "cp_mner") == {}


def test_printed_f1_fits_precision_and_recall():
    """A figure copied wrongly would show: F1 is the harmonic mean, up to rounding and means over seeds."""
    for name in table_names():
        table = load_table(name)
        for columns in (("Pre.", "Rec.", "F1"), ("P", "R", "F")):
            for row in table.rows:
                for dataset in row.paper:
                    figures = [table.printed(row, dataset).get(column) for column in columns]
                    if None not in figures and not row.is_difference:
                        precision, recall, f1 = figures
                        mean = 2 * precision * recall / (precision + recall)
                        assert mean == pytest.approx(f1, abs=0.25), (name, row.name)


def test_unknown_table_is_refused():
    with pytest.raises(ValueError, match=r"Table 'scanner-table2' is not known; choose one of .*scanner-table3"):
        load_table("scanner-table2")


def test_rows_and_figures_that_do_not_fit_are_refused():
    values = {"title": "t", "system": "mmavk", "columns": {"F1": "entities/f1"}, "measure": "entities", "recipes": {}}
    with pytest.raises(Exception, match="'other'"):
        PaperTable(**values, rows=[TableRow(name="one")], baseline="other")
    with pytest.raises(Exception, match="1 figures"):
        PaperTable(**values, rows=[TableRow(name="one", paper={"twitter2017": [1.0, 2.0]})])
    with pytest.raises(Exception, match="names of their own"):
        PaperTable(**values, rows=[TableRow(name="one"), TableRow(name="one")])
