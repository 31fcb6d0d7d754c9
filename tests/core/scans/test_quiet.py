"""Settings of libraries are given back, whichever thread is done last."""

from __future__ import annotations

import threading

import SimpleITK as sitk

from tidemark_cli.core.scans.quiet import quiet_itk


def test_a_setting_is_given_back_when_the_last_user_is_done():
    shown = sitk.ProcessObject.GetGlobalWarningDisplay
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    inside, done = threading.Event(), threading.Event()

    def use() -> None:
        with quiet_itk():
            inside.set()
            done.wait()

    thread = threading.Thread(target=use)
    with quiet_itk():
        thread.start()
        inside.wait()
    try:
        assert not shown()  # the other thread still wants it so
    finally:
        done.set()
        thread.join()
    assert shown()
