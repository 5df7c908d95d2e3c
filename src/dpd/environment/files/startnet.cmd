rem SPDX-License-Identifier: Apache-2.0
@echo off
wpeinit
set TEMP=X:\Windows\Temp
cd /d X:\dpd
call @START@
if %errorlevel%==0 goto restart
if %errorlevel%==10 goto restart
goto failed
:restart
wpeutil reboot
goto end
:failed
echo dpd: the deployment failed (status %errorlevel%); a shell follows.
:end
