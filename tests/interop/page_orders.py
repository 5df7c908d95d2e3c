# SPDX-License-Identifier: Apache-2.0
"""Orders as somebody gives them on the page: by the button, the dialog behind it, and a look at what the page shows then."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect


class PageOrders:
    """One window, of somebody who may do everything. `at` is a point or a group to choose, where the page asks for one."""

    def __init__(self, page: Page, at: str = "") -> None:
        self.page = page
        self.at = at

    def distribute(self, package: str) -> None:
        part = "assignments" if self.at else "packages"
        dialog = self._open(part, "Distribute…")
        dialog.get_by_label("Package").fill(package)
        if self.at:
            dialog.get_by_label("To", exact=True).select_option(self.at)
        self._send(dialog, "Distribute" if self.at else "Order")

    def start_session(self, package: str, minimum_clients: int) -> None:
        dialog = self._open("sessions", "Start…")
        dialog.get_by_label("Package").fill(package)
        if self.at:
            dialog.get_by_label("At", exact=True).select_option(self.at)
        dialog.get_by_label("Receivers to wait for").fill(str(minimum_clients))
        self._send(dialog, "Start")

    def approve(self, mac: str) -> None:
        card = self.page.locator("#approvals li.card").filter(has_text=mac)
        card.get_by_role("button", name=f"Approve {mac}").click()
        expect(card.locator(".done")).to_contain_text("Approved once")

    def deploy_to_unknown(self, priority: int) -> None:
        dialog = self._open("deployments", "Deploy…")
        dialog.get_by_label("For", exact=True).select_option("unknown")
        dialog.get_by_text("More", exact=True).click()
        dialog.get_by_label("Priority").fill(str(priority))
        self._send(dialog, "Deploy")

    def stop_boots(self, reason: str) -> None:
        dialog = self._open("policy", "Stop boots…")
        dialog.get_by_label("Reason").fill(reason)
        self._send(dialog, "Stop")

    def _open(self, part: str, button: str) -> Locator:
        self.page.locator(f"#{part}").get_by_role("button", name=button).click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        return dialog

    def _send(self, dialog: Locator, button: str) -> None:
        dialog.get_by_role("button", name=button, exact=True).click()
        expect(dialog).to_have_count(0)
