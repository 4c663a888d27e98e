import ale_py
import pytest
from ale_py import roms

from datasets.errors import UserError
from datasets.games import ACTION_NAMES, GAMES, find_game, legal_mask_table


@pytest.fixture(scope="module")
def emulator_action_sets() -> dict[str, tuple[int, ...]]:
    """Minimal action sets by ROM, as the emulator gives them."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulator = ale_py.ALEInterface()
    sets = {}
    for game in GAMES:
        path = roms.get_rom_path(game.rom)
        assert path is not None
        emulator.loadROM(path)
        sets[game.rom] = tuple(action.value for action in emulator.getMinimalActionSet())
    return sets


def test_legal_actions_are_the_minimal_action_sets_of_the_emulator(emulator_action_sets):
    assert {game.rom: game.legal_actions for game in GAMES} == emulator_action_sets


def test_action_names_are_those_of_the_emulator():
    assert tuple(ale_py.Action(index).name for index in range(18)) == ACTION_NAMES


def test_there_are_60_games_and_a_task_id_is_the_place_in_the_list():
    assert [game.task_id for game in GAMES] == list(range(60))
    assert len({game.name for game in GAMES}) == 60


def test_the_legal_mask_is_true_exactly_on_legal_actions():
    table = legal_mask_table()
    assert table.shape == (60, 18)
    for game in GAMES:
        assert tuple(table[game.task_id].nonzero()[0]) == game.legal_actions


@pytest.mark.parametrize(
    "spelling",
    [
        "SpaceInvaders",
        "spaceinvaders",
        "space_invaders",
        "ALE/SpaceInvaders-v5",
        "SpaceInvadersNoFrameskip-v4",
    ],
)
def test_a_game_is_found_by_every_usual_spelling(spelling):
    assert find_game(spelling).name == "SpaceInvaders"


def test_every_game_is_found_by_its_name_and_its_rom():
    assert all(find_game(game.name) is game and find_game(game.rom) is game for game in GAMES)


def test_an_unknown_game_is_answered_with_the_nearest_names():
    with pytest.raises(UserError, match=r"unknown game 'Pongg'; did you mean Pong"):
        find_game("Pongg")
    with pytest.raises(UserError, match="60 names"):
        find_game("xyzzyx")
